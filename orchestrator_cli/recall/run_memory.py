"""What memory gives a run before it plans, and takes from it at its end.

A memory that cannot be read or written is a notice and not the end of a run.
"""

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memory import (
    Dense,
    EmbeddingFailed,
    MemoryAway,
    MemoryBusy,
    MemoryFault,
    MemoryStore,
    Query,
    RecallResult,
    Record,
    Scope,
    open_store,
    recall,
    run_record,
    scrub,
)
from memory.dense import fill_vectors
from memory.dense import query_vector as asked_near
from memory.embedder import DenseVector
from memory.findings import HEADING_TOKENS, MEMORY_TOKENS, line_cost, recall_findings
from memory.learning import deciding
from memory.profile import recall_facts
from memory.records import RUN
from memory.sessions import save_exchange
from memory.small_model import FLOORS, SMALL_MODEL, small_model
from memory.templates import Template, plan_fingerprint, template_of
from orchestrator_cli.cancellation import Cancellation, run_beside
from orchestrator_cli.errors import ConfigError, LimitReached, OrchError, ProviderError
from orchestrator_cli.http_clients import httpx_options
from orchestrator_cli.journal.redaction import Redactor
from orchestrator_cli.models.budget import MeteredModel
from orchestrator_cli.models.chain import EmbeddingModel
from orchestrator_cli.models.own_keys import own_keys
from orchestrator_cli.plan import order
from orchestrator_cli.planning.planner import PlannerContext, reads_outside
from orchestrator_cli.recall.fault_notices import FaultNotices
from orchestrator_cli.recall.sessions import exchange_of
from orchestrator_cli.recall.tool_index import add_missing_tools, after_use, reindex_tools, retire_unused
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState, Work
from toolsmith.built import BuiltTool
from toolsmith.errors import LibraryError
from toolsmith.library import Library
from toolsmith.spec import Need

EMBEDDED_AT_ONCE = 256
"""How many vectors the end of a run may make."""
RUNS_LOOKED_AT = 200
"""How many remembered runs roles are judged by; to read them takes a twentieth of a second."""


@dataclass(frozen=True)
class RunMemory:
    """Memory as one run uses it."""

    store: MemoryStore
    dense: Dense | None
    """The model that makes vectors, if there is one."""
    library: Library
    masks: Redactor
    failed: FaultNotices
    scope: Scope
    """What belongs to the run's workspace."""
    seen: Scope
    """Where the runs and conversations come from that its planner sees."""
    embed_documents: Callable[[int], None] | None = None
    """Makes missing vectors of the knowledge base, at most so many."""

    def recall(self, prompt: str, run: str = "", session: str = "") -> RecallResult:
        """What is remembered that concerns a prompt; nothing if memory cannot be read.

        Args:
            run: the run that asks, and `session` its session: what they say is known.
        """
        try:
            asked = scrub(prompt)
            # Before the store is opened: others wait while it is held, and a model may take seconds.
            near = self._near_if_ready(asked)
            with self.store.opened() as memory:
                try:
                    add_missing_tools(self.library, memory, self._user)
                except (MemoryFault, LibraryError, OSError) as exc:
                    self.failed("The index of tools could not be kept in step", exc)
                found = recall(memory, prompt, scope=self.seen, near=near)
                facts = recall_facts(memory, asked, scope=self.scope, now=datetime.now(UTC), near=near)
                spent = HEADING_TOKENS + sum(line_cost(fact.line) for fact in facts) if facts else 0
                said = recall_findings(
                    memory,
                    asked,
                    scope=self.seen,
                    session=session,
                    besides=(run, *(one.run for one in found.runs), *found.withheld),
                    budget=MEMORY_TOKENS - spent,
                    near=near,
                )
                withheld = (*found.withheld, *said.withheld)
                return found.model_copy(update={"known": facts, "findings": said.shown, "withheld": withheld})
        except MemoryFault as exc:
            self.failed("Nothing could be recalled", exc)
            return RecallResult()

    @property
    def _user(self) -> Scope:
        return self.scope.user_wide

    def _near_if_ready(self, asked: str) -> DenseVector | None:
        """The text as a vector; None if the small model is not loaded: no run waits for it."""
        if self.dense is None or not self.dense.is_ready():
            return None
        return asked_near(self.store, self.dense, asked)

    def tools_like(self, need: Need) -> list[str]:
        """The names of tools that memory holds for similar to a need."""
        try:
            wanted = f"{need.name.replace('_', ' ')}. {need.purpose}"
            near = self._near_if_ready(wanted)
            found = recall(self.store, wanted, scope=self._user, near=near)
        except MemoryFault as exc:
            self.failed("Similar tools could not be recalled", exc)
            return []
        return [tool.name for tool in found.tools if tool.serves]

    def plans_like(self, prompt: str) -> list[Any]:
        """The plans of earlier runs whose prompts share words with this one, as memory keeps them."""
        try:
            hits = self.store.search(Query(prompt, kinds=RUN, scope=self._user, limit=RUNS_LOOKED_AT))
        except MemoryFault as exc:
            self.failed("How roles did before could not be recalled", exc)
            return []
        # What others have written may inform a planner; it decides nothing.
        return [hit.record.data.get("plan") for hit in hits if hit.record.is_own]

    def remember(
        self,
        state: RunState,
        planner_context: PlannerContext,
        answer: str,
        outcome: str,
        seconds: float,
        *,
        used: Collection[BuiltTool],
        files: Collection[str] | None,
    ) -> None:
        """Keep how the run went, which tools served it, and what was said, if it belongs to a session.

        Args:
            outcome: `completed`, `failed`, or `stopped` if its plan is not to blame.
            used: the built tools that it made or took from the library.
            files: those of the workspace when it was planned; None if its plan is not to be used again.
        """
        networked = [tool.name for tool in used if tool.spec.network]
        outside = bool(state.occasion) or reads_outside(
            (*state.earlier, state.plan), planner_context, networked
        )
        run = record_of(
            state,
            outcome,
            answer,
            seconds,
            user=self._user,
            reads_outside=outside,
            files=files,
            masks=self.masks,
        )
        session = state.conversation.session
        try:
            try:
                with self.store.opened() as memory:
                    # Feedback on a run outlives its resumption.
                    known = memory.get([run.id], run.scope)
                    if said_of_it := deciding(known[0]).data.get("feedback") if known else None:
                        run = run.model_copy(update={"data": run.data | {"feedback": said_of_it}})
                    memory.add([run, *(after_use(memory, tool, state.prompt, self._user) for tool in used)])
                    if session:
                        save_exchange(memory, session, exchange_of(state, answer, self.masks), self.scope)
            except (MemoryBusy, MemoryAway):
                # What a tool has served can only be added to what is read. The run itself can wait.
                self.store.add([run])
                if session:
                    self.failed.notice(
                        f"Memory cannot be read now, so session {session} is without this run; to add it "
                        "later: orch memory rebuild"
                    )
            self._retire()
            self._embed()
        except MemoryFault as exc:
            self.failed("The run could not be remembered", exc)

    def _retire(self) -> None:
        """Retire tools that were not used for long, and say so. What cannot be done waits for another day."""
        try:
            if names := retire_unused(self.library):
                with self.store.opened() as memory:
                    reindex_tools(self.library, memory, self._user)
                self.failed.notice(f"Retired until a plan needs them, being unused: {', '.join(names)}")
        except (LibraryError, OSError) as exc:
            self.failed("Unused tools could not be retired", exc)

    def _embed(self) -> None:
        """Make the vectors that are missing, if the user wants any; nothing waits for them."""
        if self.dense is None or not self.dense.is_ready():
            return
        # What can be done later does not change how a run ends.
        with contextlib.suppress(OrchError, KeyboardInterrupt):
            done = fill_vectors(self.store, self.dense, self._user, limit=EMBEDDED_AT_ONCE)
            if self.embed_documents is not None:
                self.embed_documents(EMBEDDED_AT_ONCE)
            # What costs nothing goes on by itself, a part at the end of each run.
            if done.made and done.missing and self.dense.model != SMALL_MODEL:
                self.failed.notice(
                    f"{done.missing:,} things remembered have no vectors yet: orch memory embed"
                )


def record_of(
    state: RunState,
    outcome: str,
    answer: str,
    seconds: float,
    *,
    user: Scope,
    reads_outside: bool,
    files: Collection[str] | None,
    masks: Redactor,
    ended: datetime | None = None,
) -> Record:
    """What memory keeps of a run; arguments as in `RunMemory.remember`.

    Args:
        user: whose run it was.
        reads_outside: whether it may have read what others wrote (see `planner.reads_outside`).
        ended: when it ended; None for now.
    """
    prompt = masks(state.prompt)
    rows = masks(state.plan.model_dump(mode="json", exclude_defaults=True))
    failed = [f"{n}: {why}" for n, why in state.failures.items() if state.state_of(n) == "failed"]
    done = all(state.state_of(name) in ("done", "skipped") for name in state.plan.ids)
    template: Template | None = None
    usable = done and not state.stranded and not state.is_wished
    if outcome == "completed" and files is not None and usable:
        template = template_of(rows, prompt, files)
    return run_record(
        run=state.run,
        prompt=prompt,
        outcome=outcome,
        answer=masks(answer),
        plan=masks(plan_record(state)),
        scope=user,
        revisions=len(state.own_lessons),
        calls=state.usage.calls,
        cost=None if state.usage.unpriced else state.usage.cost,
        seconds=seconds,
        lesson=masks(" ".join(state.own_lessons)),
        # The words of a failure may be those of a page.
        reason="" if reads_outside else masks("; ".join(failed)),
        template=template,
        fingerprint=plan_fingerprint(rows, prompt),
        from_web=reads_outside and state.revisions > 0,
        outside=reads_outside,
        workspace=str(Path(state.started.workspace).resolve()) if state.started else "",
        wished=state.is_wished,
        undone=state.undone,
        created=ended,
    )


def plan_record(state: RunState) -> list[dict[str, Any]]:
    """The subtasks with what they came to, as memory keeps them.

    `cost` is None if it is not known, and `model` if none or several did the work.
    """
    rows = []
    for name in order(state.plan):
        usage = state.results[name].usage if name in state.results else None
        work = state.work.get(name, Work())
        ended: dict[str, Any] = {
            "state": state.states.get(name),
            "seconds": work.seconds,
            "cost": usage.cost if usage is not None and not usage.unpriced else None,
            "model": next(iter(work.answered_by)) if len(work.answered_by) == 1 else None,
        }
        rows.append(state.plan[name].model_dump(mode="json") | ended)
    return rows


def of_server() -> dict[str, Any]:
    """Options for the client of a Qdrant server. A reply may hold a thousand records with their vectors."""
    return httpx_options(256 << 20)


def open_memory(settings: Settings, warn: Callable[[str], None]) -> MemoryStore:
    """The store of the settings. Raises `ConfigError`.

    `warn` shows the user what happened if a part of memory was damaged: memory never forgets silently.
    """
    try:
        return open_store(
            settings.home / "memory",
            url=settings.memory.url,
            api_key=settings.memory.api_key,
            warn=warn,
            remedy="Get back what the journals of runs hold with: orch memory rebuild",
            http=of_server(),
        )
    except MemoryFault as exc:
        place = "See memory.url in orch.toml." if settings.memory.url else f"It is in {settings.home}/memory."
        raise ConfigError(f"The memory cannot be opened: {exc}", place) from exc


# --- the user's embedding model

LATER = "Records without a vector are found by their words; make the vectors with: orch memory embed"


def load_beside(settings: Settings) -> None:
    """Load the small model in a thread, if it is used and not loaded: for the prompts after this one."""
    if settings.memory.dense_model == SMALL_MODEL and not small_model().is_loaded:
        run_beside(_load)


def _load() -> None:
    with contextlib.suppress(EmbeddingFailed):  # the next call says why
        small_model().load()


def open_dense(
    settings: Settings,
    warn: Callable[[str], None],
    *,
    cancellation: Cancellation | None = None,
    meter: MeteredModel | None = None,
    mask: Callable[[str], str] = str,
) -> Dense | None:
    """The model of `memory.dense`; None for none. `mask` removes secrets from the texts that are sent.

    A failing provider or a limit of the run stops nothing and causes one warning: see `memory.dense`. Ctrl-C
    and the run's time limit also cancel calls to the model.
    """
    name = settings.memory.dense_model
    if name is None:
        return None
    if name == SMALL_MODEL:
        small = small_model()
        return Dense(name, small, warn, floors=FLOORS, is_ready=lambda: small.is_loaded)
    embedding = EmbeddingModel(name, cancellation or Cancellation(), meter, keys=own_keys(settings))

    def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        try:
            return embedding([mask(text) for text in texts])
        except ProviderError as exc:
            raise EmbeddingFailed(f"{exc.message} Check memory.dense and its provider. {LATER}") from exc
        except LimitReached as exc:
            raise EmbeddingFailed(f"{exc.message} {LATER}") from exc

    return Dense(name, embed, warn)
