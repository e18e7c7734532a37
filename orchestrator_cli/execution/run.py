"""`Run`: the services of one run, as `runtime.open_run` opens them."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from orchestrator_cli import __version__, events
from orchestrator_cli.approvals.broker import ApprovalBroker
from orchestrator_cli.approvals.effects import Effects
from orchestrator_cli.approvals.permissions import PermissionGate
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.engine.flow_run import FlowRun
from orchestrator_cli.errors import RunFailed
from orchestrator_cli.execution.attempt import MakeAttempt
from orchestrator_cli.execution.tool_registry import ToolRegistry
from orchestrator_cli.journal.journal import BlobMissing, EventStream
from orchestrator_cli.journal.redaction import Redactor
from orchestrator_cli.models.budget import MeteredModel
from orchestrator_cli.models.model import Model
from orchestrator_cli.models.sources import ModelSource, model_fault
from orchestrator_cli.planning.planner import NOTHING_SAID, PlannerContext, ProcessCard
from orchestrator_cli.planning.routing import RoutingEvidence, past_outcomes
from orchestrator_cli.recall.attachments import PLANNER_CHARS, shown
from orchestrator_cli.recall.instructions import fitting
from orchestrator_cli.recall.run_memory import RunMemory
from orchestrator_cli.roles import Role
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState
from orchestrator_cli.state.duplicate_code import DuplicateCodeDetector
from orchestrator_cli.surroundings import Surroundings
from orchestrator_cli.values import (
    NO_OPTIONS,
    AttachedFile,
    Attachment,
    Conversation,
    Guidance,
    PromptOptions,
    Usage,
)
from orchestrator_cli.workspace import Workspace
from orchestrator_cli.workspace.folder import history_folder
from orchestrator_cli.workspace.history import CommitHistory
from toolsmith.sandbox import Backend


@dataclass(frozen=True)
class Run:
    """What the parts of a run work with. What the run has come to is `state`."""

    id: str
    settings: Settings
    stream: EventStream
    model: Model
    meter: MeteredModel
    """What the calls of `model` came to."""
    source: ModelSource
    """Where `model` comes from."""
    model_names: dict[str, str]
    """The model of each role."""
    found_model: str
    """The model that was found and not set, and where; empty if all are set."""
    alternatives: tuple[str, ...]
    """Further models that agents may ask."""
    roles: dict[str, Role]
    lost_models: dict[str, Role]
    """Roles as their files say, whose own model cannot be asked."""
    workspace: Workspace
    surroundings: Surroundings
    guidance: Guidance
    """What the project and the user have written down about how to work."""
    skills: Path | None
    """The folder with the files of skills that were read; None if there are no skills."""
    left_out: tuple[str, ...]
    """What of it is not used, as notices."""
    backend: Backend
    sandbox: str
    """What the code of models runs in, for people."""
    registry: ToolRegistry
    memory: RunMemory
    broker: ApprovalBroker
    gate: PermissionGate
    effects: Effects
    masks: Redactor
    duplicates: DuplicateCodeDetector
    cancellation: Cancellation
    engine: FlowRun | None
    """The flow run, begun beside the planner; none if no plan is to be run."""
    make_attempt: MakeAttempt
    """Makes the attempts at subtasks, in this process or elsewhere."""

    @property
    def state(self) -> RunState:
        return self.stream.state

    @property
    def usage(self) -> Usage:
        return self.meter.total

    def emit(self, fact: events.Fact) -> None:
        self.stream.emit(fact)

    def notice(self, message: str) -> None:
        """Say something that stops nothing."""
        self.emit(events.Noticed(message=message))

    @property
    def flow_run(self) -> FlowRun:
        """Raises `RunFailed` if the run was opened without Prefect."""
        if self.engine is None:
            raise RunFailed("This run was opened without Prefect, so it can carry out no plan.")
        return self.engine

    @property
    def history(self) -> CommitHistory:
        """What the run's commits replaced."""
        return CommitHistory(history_folder(self.settings.home, self.id))

    # --- its first event

    def started(
        self,
        prompt: str,
        conversation: Conversation = NOTHING_SAID,
        attachments: tuple[Attachment, ...] = (),
        options: PromptOptions = NO_OPTIONS,
    ) -> events.RunStarted:
        return events.RunStarted(
            prompt=prompt,
            session=conversation.session,
            conversation=conversation.turns,
            earlier=conversation.earlier,
            workspace=str(self.workspace.root),
            mark=self.workspace.mark,
            models=self.model_names,
            found=self.found_model,
            sandbox=self.sandbox,
            version=__version__,
            approve=self.settings.approve,
            guidance=self.guidance.labels,
            attachments=attachments,
            answer_schema=options.answer_schema,
            speak=str(options.speak or ""),
            occasion=self.surroundings.occasion,
        )

    def resumed(self, limits: Mapping[str, JsonValue]) -> events.RunResumed:
        """`limits` are those that the resuming command names."""
        return events.RunResumed(
            version=__version__,
            sandbox=self.sandbox,
            limits=dict(limits),
            workspace=str(self.workspace.root),
            mark=self.workspace.mark,
            found=self.found_model,
            guidance=self.guidance.labels,
        )

    # --- what models are given

    def sees(self, model: str) -> bool | None:
        """Whether a model takes images; None if that is unknown."""
        return True if model in self.settings.vision_models else self.source.sees(model)

    def attached(
        self, model: str, most_chars: int, names: Collection[str] | None = None
    ) -> tuple[AttachedFile, ...]:
        """The attachments, or those of these names, as a model is given them. Raises `RunFailed`."""
        found = [one for one in self.state.attachments if names is None or one.name in names]
        sees = any(one.kind == "image" for one in found) and bool(self.sees(model))
        contents = {one.kept: self.kept(one) for one in found}
        return shown(found, contents, self.state.transcripts, most_chars=most_chars, sees=sees)

    def kept(self, attachment: Attachment) -> bytes:
        """What the run keeps of an attachment. Raises `RunFailed`."""
        try:
            return self.stream.blobs.content(attachment.kept)
        except BlobMissing as exc:
            raise RunFailed(f"{exc}.", "Start the run again with the files attached.") from exc

    def planner_context(self, recalled: Iterable[str] = ()) -> PlannerContext:
        """What a plan may count on; `recalled` are names of tools."""
        return PlannerContext(
            roles=tuple(role.card for role in self.roles.values()),
            tools=self.registry.cards(recalled),
            silent=self.registry.silent(),
            absent=self.registry.absent(),
            processes=tuple(
                ProcessCard(name=name, when=process.when, inputs=process.inputs)
                for name, process in self.settings.processes.items()
            ),
            max_subtasks=self.settings.max_subtasks,
            surroundings=self.surroundings,
            guidance=fitting(self.guidance, self.settings.context_tokens),
            attached=self.attached(self.model_names["planner"], PLANNER_CHARS),
            answer_schema=self.state.answer_schema,
        )

    def routing_evidence(self, prompt: str) -> RoutingEvidence:
        """What roles and models are chosen by: how they did at prompts that share words with this one."""
        return RoutingEvidence(
            cards=tuple(role.card for role in (self.roles | self.lost_models).values()),
            outcomes=past_outcomes(self.memory.plans_like(prompt)),
            prompt=prompt,
            model=self.model_names["agent"],
            alternatives=self.alternatives,
            unasked={name: model_fault(role.model or "") for name, role in self.lost_models.items()},
        )
