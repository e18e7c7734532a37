"""Everything a run needs, opened in the order in which a user would want to hear that it is missing.

What takes seconds (LiteLLM, Prefect, its server) begins here and goes on beside the first
model call: the server in a process of its own, the imports one after the other in a thread,
LiteLLM first because the planner's request waits for it.
"""

import contextlib
import gc
import hashlib
import importlib
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from memory import (
    Dense,
    Memory,
    MemoryBusy,
    MemoryFault,
    MemoryStore,
    Query,
    Recalled,
    Record,
    Scope,
    open_store,
    recall,
    run_record,
    scrub,
)
from memory.conversation import Exchange, keep
from memory.dense import asked as asked_near
from memory.dense import fill
from memory.profile import recall_facts
from memory.records import RUN
from orchestrator_cli import __version__, events
from orchestrator_cli.approvals.broker import ApprovalBroker
from orchestrator_cli.approvals.effects import Effects
from orchestrator_cli.approvals.inbox import Inbox, inbox_thread
from orchestrator_cli.approvals.permissions import PermissionGate
from orchestrator_cli.cancellation import Cancellation, run_beside
from orchestrator_cli.engine import server as prefect_server
from orchestrator_cli.engine.flow_run import FlowRun
from orchestrator_cli.errors import ConfigError, OrchError, RunTimedOut, UsageError
from orchestrator_cli.execution.resume import check_resumable
from orchestrator_cli.execution.tool_registry import Toolbox
from orchestrator_cli.journal.journal import CatchesUp, Emit, EventStream, View, read_journal
from orchestrator_cli.journal.redaction import MaskedModel, Masks
from orchestrator_cli.journal.run_lock import held
from orchestrator_cli.mcp_client.servers import Servers
from orchestrator_cli.models.budget import MeteredModel
from orchestrator_cli.models.chain import check_prices, open_models, recorded_models
from orchestrator_cli.models.client import IMPORT_LOCK, prepare
from orchestrator_cli.models.model import Model
from orchestrator_cli.models.recorded import RecordedModel
from orchestrator_cli.plan import Plan
from orchestrator_cli.planning.context import PlannerContext, ProcessCard
from orchestrator_cli.planning.planner import NOTHING_SAID
from orchestrator_cli.planning.reuse import Declined, newer_fact_reason, plan_again, reuse_reason, tools_of
from orchestrator_cli.planning.routing import RoutingEvidence, past_outcomes
from orchestrator_cli.recall import tool_index
from orchestrator_cli.recall.dense import open_dense
from orchestrator_cli.recall.durations import Durations, shape_of
from orchestrator_cli.recall.knowledge import KnowledgeShelf
from orchestrator_cli.recall.remembering import learned_from, with_feedback
from orchestrator_cli.recall.sessions import exchange_of, scope_of
from orchestrator_cli.roles import Role, askable, load_roles
from orchestrator_cli.settings import ROLES, Settings, find_model, missing_key
from orchestrator_cli.state.board import Board
from orchestrator_cli.state.duplicate_code import Repeats
from orchestrator_cli.state.replay import Past, replay
from orchestrator_cli.workspace import Workspace
from orchestrator_cli.workspace.folder import history_folder
from orchestrator_cli.workspace.history import History
from toolsmith.built import BuiltTool
from toolsmith.errors import LibraryError
from toolsmith.library import Library
from toolsmith.sandbox import Backend, SandboxUnavailable, choose_backend
from toolsmith.sandbox.proxy import Dialer
from toolsmith.search import Recall
from toolsmith.spec import Need

MAX_PROMPT_CHARS = 200_000
MAX_FILES = 100_000
"""How many names of files are looked at when a plan is to be used again."""
EMBEDDED_AT_ONCE = 256
"""How many vectors the end of a run may make."""
THREADS = 2
"""For each subtask that may run: one more begins while Prefect puts down the end of the one before it."""
BESIDE = ("prefect.main", "prefect.flow_engine", "prefect.task_engine", "prefect.task_runners", "smolagents")
"""What every graph needs, besides Prefect's settings."""
RUNS_LOOKED_AT = 200
"""How many remembered runs roles are judged by; to read them takes a twentieth of a second."""


@dataclass(frozen=True)
class House:
    """The open parts of one run."""

    run: str
    settings: Settings
    model: Model
    meter: MeteredModel
    """What the calls of `model` came to."""
    model_names: dict[str, str]
    alternatives: tuple[str, ...]
    """Models that agents may ask besides theirs, and that can be asked."""
    workspace: Workspace
    library: Library
    toolbox: Toolbox
    roles: dict[str, Role]
    lost_models: dict[str, Role]
    """Roles as their files say, whose own model cannot be asked."""
    backend: Backend
    memory: MemoryStore
    dense: Dense | None
    """The model that makes vectors for memory, where the user has set one."""
    cancellation: Cancellation
    broker: ApprovalBroker
    gate: PermissionGate
    masks: Masks
    effects: Effects
    repeats: Repeats
    unsafe: str
    """How the user allowed that there is no sandbox; empty where there is one."""
    emit: Emit
    flow_run: FlowRun | None
    """Begun beside the planner; none where no plan is to be run."""
    durations: Durations
    past: Past
    """What the run had come to in earlier processes; empty for a new one."""

    @property
    def history(self) -> History:
        """What the run's commits replaced."""
        return History(history_folder(self.settings.home, self.run))

    def introduce(self, prompt: str, conversation: events.Conversation = NOTHING_SAID) -> events.RunStarted:
        return events.RunStarted(
            prompt=prompt,
            session=conversation.session,
            conversation=conversation.turns,
            earlier=conversation.earlier,
            workspace=str(self.workspace.root),
            models=self.model_names,
            sandbox=self._sandbox,
            version=__version__,
            approve=self.settings.approve,
        )

    @property
    def scope(self) -> Scope:
        """Of what belongs to this workspace in memory."""
        return scope_of(self.workspace.root)

    @property
    def _sandbox(self) -> str:
        return f"{self.backend.detail}; allowed by {self.unsafe}" if self.unsafe else self.backend.name

    def introduce_again(self, limits: Mapping[str, JsonValue]) -> events.RunResumed:
        """What begins the part of another process; `limits` are those that were said anew."""
        return events.RunResumed(version=__version__, sandbox=self._sandbox, limits=dict(limits))

    def tell_recovered(self) -> None:
        """Say what the opening of the workspace has ended."""
        for text in self.workspace.recovered:
            self.emit(events.Noticed(message=text))

    def recall(self, prompt: str) -> Recalled:
        """What memory knows; a memory that cannot be read is a notice and not the end."""
        self.tell_recovered()
        try:
            asked = scrub(prompt)
            # Before the turn: others wait while it is held, and a model may take seconds.
            near = asked_near(self.memory, self.dense, asked)
            with self.memory.opened() as memory:
                self._keep_index(memory)
                found = recall(memory, prompt, scope=Scope(), near=near)
                facts = recall_facts(memory, asked, scope=self.scope, now=datetime.now(UTC), near=near)
                return found.model_copy(update={"known": facts})
        except MemoryFault as exc:
            self.emit(events.Noticed(message=f"Nothing could be recalled: {exc}"))
            return Recalled()

    def _keep_index(self, memory: Memory) -> None:
        try:
            tool_index.fill(self.library, memory)
        except (MemoryFault, LibraryError, OSError) as exc:
            self.emit(events.Noticed(message=f"The index of tools could not be kept in step: {exc}"))

    def planner_context(self, recalled: Iterable[str]) -> PlannerContext:
        """What a plan may count on; `recalled` are names of tools."""
        return PlannerContext(
            roles=tuple(role.card for role in self.roles.values()),
            tools=self.toolbox.cards(recalled),
            processes=tuple(
                ProcessCard(name=name, when=process.when, inputs=process.inputs)
                for name, process in self.settings.processes.items()
            ),
            max_subtasks=self.settings.max_subtasks,
        )

    def files(self) -> tuple[str, ...]:
        """The names of all files of the workspace."""
        return tuple(line.rpartition(" (")[0] for line in self.workspace.files(limit=MAX_FILES))

    def plan_again(self, recalled: Recalled) -> tuple[Plan, PlannerContext] | None:
        """The plan of an earlier run, and what it counts on; None where a planner has to be asked."""
        if self.settings.reuse == "never" or not recalled.plans:
            return None
        files = self.files()
        for earlier in recalled.plans:
            planner_context = self.planner_context(tools_of(earlier.plan))
            why = reuse_reason(earlier.run, earlier.swaps, earlier.runs)
            newer = earlier.unknown(recalled.known)
            declined = earlier.unmapped or (newer_fact_reason(newer.line) if newer else "")
            plan = (
                Declined(reason=declined)
                if declined
                else plan_again(
                    earlier.plan, why=why, needed=earlier.files, planner_context=planner_context, files=files
                )
            )
            if isinstance(plan, Plan):
                swapped = tuple(events.Swapped(old=old, new=new) for old, new in earlier.swaps)
                self.emit(events.PlanReused(earlier=earlier.run, swapped=swapped, reason=why))
                return plan, planner_context
            self.emit(events.ReuseDeclined(earlier=earlier.run, reason=plan.reason))
        return None

    def routing_evidence(self, prompt: str) -> RoutingEvidence:
        """What roles and models are chosen by: what they came to at prompts sharing words with this one."""
        try:
            hits = self.memory.search(Query(prompt, kinds=RUN, scope=Scope(), limit=RUNS_LOOKED_AT))
        except MemoryFault as exc:
            self.emit(events.Noticed(message=f"How roles did before could not be recalled: {exc}"))
            hits = []
        # What others have written may inform a planner; it decides nothing.
        plans = [hit.record.data.get("plan") for hit in hits if hit.record.trust == "own"]
        return RoutingEvidence(
            cards=tuple(role.card for role in (self.roles | self.lost_models).values()),
            outcomes=past_outcomes(plans),
            prompt=prompt,
            model=self.model_names["agent"],
            alternatives=self.alternatives,
            unasked={name: missing_key(role.model or "") for name, role in self.lost_models.items()},
        )

    def remember(
        self, prompt: str, board: Board, answer: str, outcome: str, seconds: float, session: str = ""
    ) -> None:
        """Keep how the run went, which tools served it, and what was said where it belongs to a session."""
        usage, told = self.meter.total, self.masks(prompt)
        networked = [tool.name for tool in self.toolbox.used() if tool.spec.network]
        run = run_record(
            run=self.run,
            prompt=told,
            outcome=outcome,
            answer=self.masks(answer),
            plan=self.masks(shape_of(board, self.durations)),
            scope=Scope(),
            revisions=board.revisions,
            calls=usage.calls,
            cost=None if usage.unpriced else usage.cost,
            seconds=seconds,
            lesson=self.masks(" ".join(board.lessons)),
            **learned_from(board, outcome, told, networked, self.masks),
        )
        try:
            try:
                with self.memory.opened() as memory:
                    run = with_feedback(run, memory)
                    memory.add([run, *(_tool_record(memory, tool, prompt) for tool in self.toolbox.used())])
                    if session:
                        keep(memory, session, self._said(prompt, board, answer), self.scope)
            except MemoryBusy:
                # What a tool has served can only be added to what is read. The run itself can wait.
                self.memory.add([run])
                if session:
                    self.emit(events.Noticed(message=f"Session {session} could not be kept: memory is busy."))
            self._embed()
        except MemoryFault as exc:
            self.emit(events.Noticed(message=f"The run could not be remembered: {exc}"))

    def _embed(self) -> None:
        """Make the vectors that are lacking, where the user wants any; what is remembered waits for none."""
        if self.dense is None:
            return
        # A run that has ended is not ended otherwise by what can be done later.
        with contextlib.suppress(OrchError, KeyboardInterrupt):
            done = fill(self.memory, self.dense, Scope(), most=EMBEDDED_AT_ONCE)
            if done.made and done.lacking:
                told = f"{done.lacking:,} things remembered have no vectors yet: orch memory embed"
                self.emit(events.Noticed(message=told))

    def _said(self, prompt: str, board: Board, answer: str) -> Exchange:
        plan, _, results, _ = board.snapshot()
        files = {path for result in results.values() for path in result.files}
        return exchange_of(self.run, self.masks(prompt), self.masks(plan), self.masks(answer), files)


def _tool_record(memory: Memory, tool: BuiltTool, prompt: str) -> Record:
    """The index entry of a tool, with this prompt added to those it has served. Raises `MemoryFault`."""
    served = tool_index.served(memory, tool.name)
    return tool_index.record_of(tool, [*(p for p in served if p != prompt), prompt])


@contextlib.contextmanager
def open_house(
    settings: Settings,
    views: Iterable[View],
    *,
    model: Model | None = None,
    recorder: Callable[[Model], Model] | None = None,
    resumed: str = "",
    wants_engine: bool = True,
    attended: bool = False,
    unsafe: str = "",
    dialer: Dialer = Dialer(),  # noqa: B008 - it is frozen
) -> Iterator[House]:
    """The parts of one run, closed again at the end.

    Args:
        views: told every event; they are closed at the end.
        model: takes the place of the configured models, as a recording does.
        recorder: is put around the configured models, to keep what they said.
        resumed: the run to go on with, instead of a new one.
        wants_engine: whether the plan will be run; `orch plan` needs no Prefect.
        attended: whether somebody is there who can answer questions while the run goes on.
        unsafe: run code WITHOUT A SANDBOX; says how the user has allowed that.
        dialer: resolves and checks the addresses of what may be reached.

    Raises `UsageError` and `ConfigError`, each before any work is done.
    """
    durations = Durations()
    views, run = [*views, durations], resumed or new_run_id()
    workspace = Workspace(
        settings.workspace,
        settings.home,
        settings.workspace_max_mb,
        run=run,
        allowed=settings.allow_protected,
    )
    _check_home(settings.home)
    played = model.name if isinstance(model, RecordedModel) else "recorded"
    names = dict.fromkeys(ROLES, played) if model is not None else model_names(settings)
    backend = choose_backend("unsafe") if unsafe else choose_sandbox(settings)
    # Played-back replies need no provider.
    roles, lost_models = askable(load_roles(settings.home), missing_key if model is None else lambda _: "")
    others = settings.alternatives if model is None else ()
    alternatives = tuple(name for name in others if not missing_key(name))
    goes_on = run if wants_engine else ""
    cancellation = Cancellation()
    masks = Masks()
    with contextlib.ExitStack() as closing:
        folder = settings.home / "runs" / run
        closing.enter_context(held(folder))
        found = list(read_journal(folder / "journal.jsonl")) if resumed else []
        past = replay(found)
        if resumed:
            check_resumable(past)
        for view in views:
            if isinstance(view, CatchesUp):
                view.catch_up(found)
        stream = EventStream(run, folder / "journal.jsonl", views, last=past.last, mask=masks)
        closing.callback(stream.close)
        engine = _start_engine(settings, cancellation, live=model is None, wanted=wants_engine)
        flow_run = None
        if wants_engine:
            threads = THREADS * settings.max_parallel + 1
            flow_run = closing.enter_context(FlowRun(run, engine, threads=threads, resumed=bool(resumed)))
        if model is not None:
            models = recorded_models(model, settings, stream.emit, used=past.usage, run=goes_on)
        else:
            named = [*alternatives, *(role.model for role in roles.values() if role.model)]
            dense_names = filter(None, [settings.memory.dense])
            check_prices(settings, [*names.values(), *named, *dense_names], cancellation)
            models = open_models(settings, names, cancellation, stream.emit, used=past.usage, run=goes_on)
        asked = MaskedModel(recorder(models.model) if recorder else models.model, masks)
        broker = ApprovalBroker(
            stream.emit,
            policy={*settings.approve, *(past.started.approve if past.started else ())},
            yes=settings.yes,
            attended=attended,
            before=past.given.values(),
        )
        gate = PermissionGate(broker, settings, masks=masks, cancellation=cancellation, dialer=dialer)
        library = Library(settings.home / "tools")
        memory = open_memory(settings, stream.emit)
        # A recording has no provider, so nothing is asked of one.
        dense = (
            open_dense(
                settings,
                lambda text: stream.emit(events.Noticed(message=text)),
                cancellation=cancellation,
                meter=models.meter,
                mask=masks,
            )
            if model is None
            else None
        )
        servers = None
        # A recording, or a call without a model, plans nothing that could name their tools.
        if settings.mcp and model is None:
            servers = Servers(
                settings,
                root=workspace.root,
                broker=broker,
                masks=masks,
                emit=stream.emit,
                cancellation=cancellation,
            )
            closing.callback(servers.close)
        toolbox = Toolbox(
            library,
            network=settings.network,
            allow_protected=settings.allow_protected,
            model=asked,
            backend=backend,
            gate=gate,
            emit=stream.emit,
            masks=masks,
            recall=_recalling(memory, dense, stream.emit),
            run=run,
            servers=servers,
            knowledge=KnowledgeShelf(settings, lambda text: stream.emit(events.Noticed(message=text)), dense),
        )
        toolbox.restore(past.made, past.reused)
        house = House(
            run=run,
            settings=settings,
            model=asked,
            meter=models.meter,
            model_names=names,
            alternatives=alternatives,
            workspace=workspace,
            library=library,
            toolbox=toolbox,
            roles=roles,
            lost_models=lost_models,
            backend=backend,
            memory=memory,
            dense=dense,
            cancellation=cancellation,
            broker=broker,
            gate=gate,
            masks=masks,
            effects=Effects(
                run,
                broker=broker,
                emit=stream.emit,
                policy=settings.effects,
                before=(*past.effects.values(), *past.ended.values()),
            ),
            repeats=Repeats(event.data for event in found),
            unsafe=unsafe,
            emit=stream.emit,
            flow_run=flow_run,
            durations=durations,
            past=past,
        )
        inbox = Inbox(folder, broker, cancellation, stream.emit, [asked.id for asked in past.open])
        with (
            contextlib.closing(memory),
            inbox_thread(inbox) if wants_engine else contextlib.nullcontext(),
            _time_limit(settings, cancellation, run=goes_on, spent_s=past.seconds),
        ):
            yield house


def _recalling(memory: MemoryStore, dense: Dense | None, emit: Emit) -> Recall:
    """What memory holds for alike, of the tools that are needed; names only."""

    def names(need: Need) -> list[str]:
        try:
            wanted = f"{need.name.replace('_', ' ')}. {need.purpose}"
            found = recall(memory, wanted, scope=Scope(), near=asked_near(memory, dense, wanted))
        except MemoryFault as exc:
            emit(events.Noticed(message=f"Alike tools could not be recalled: {exc}"))
            return []
        return [tool.name for tool in found.tools if tool.serves]

    return names


def _check_home(home: Path) -> None:
    """Raise `ConfigError` where the data folder cannot be made or written to."""
    probe = home / f".orch-{uuid.uuid4().hex[:12]}.tmp"
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            probe.write_bytes(b"written")
        finally:
            probe.unlink(missing_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"The data folder {home} cannot be written to: {exc.strerror}.",
            "Free some space, mend its permissions, or name another folder in ORCH_HOME.",
        ) from exc


def checked_prompt(prompt: str, home: Path) -> str:
    """The prompt as it is sent. Raises `UsageError`; a prompt that is too long is kept in a file."""
    if not prompt.strip():
        raise UsageError(
            "The prompt is empty.", 'Say what you want done: orch ask "…", or orch ask - < file.'
        )
    if len(prompt) > MAX_PROMPT_CHARS:
        kept = home / "prompts" / f"{hashlib.sha256(prompt.encode()).hexdigest()[:12]}.txt"
        _check_home(home)
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept.write_text(prompt, encoding="utf-8")
        raise UsageError(
            f"The prompt has {len(prompt):,} characters; at most {MAX_PROMPT_CHARS:,} are sent to a model.",
            f"It is kept in {kept}: put the material into a file of the workspace, and ask about it.",
        )
    return prompt.strip()


def model_names(settings: Settings) -> dict[str, str]:
    """The model of every role; one is looked for only where a role has none. Raises `ConfigError`."""
    found: str | None = None
    names = {}
    for role in ROLES:
        name = settings.model_for(role)
        if name is None:
            found = found or find_model().model
            name = found
        names[role] = name
    return names


def choose_sandbox(settings: Settings) -> Backend:
    try:
        return choose_backend(None if settings.sandbox == "auto" else settings.sandbox)
    except SandboxUnavailable as exc:
        if settings.sandbox == "auto":
            told, remedy = "No sandbox works here, so code written by a model cannot be run.", str(exc)
        else:
            told = f"The setting sandbox names {settings.sandbox}, which does not work here."
            remedy = f"{str(exc).splitlines()[0]}\nWithout the setting, the best one that works is chosen."
        raise ConfigError(told, remedy) from exc


def open_memory(settings: Settings, emit: Emit) -> MemoryStore:
    try:
        return open_store(
            settings.home / "memory",
            url=settings.memory.url,
            api_key=settings.memory.api_key,
            warn=lambda text: emit(events.Noticed(message=text)),
        )
    except MemoryFault as exc:
        place = "See memory.url in orch.toml." if settings.memory.url else f"It is in {settings.home}/memory."
        raise ConfigError(f"The memory cannot be opened: {exc}", place) from exc


def new_run_id() -> str:
    """Sorts by time, and is unlike any other."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"


def _start_engine(
    settings: Settings, cancellation: Cancellation, *, live: bool, wanted: bool
) -> Callable[[], None]:
    """Begin everything slow, and return what waits until Prefect is imported and its server answers."""
    url, home = "", settings.prefect_home or settings.home
    if wanted:
        url = settings.prefect_api_url or prefect_server.ensure_server(home, settings.prefect_idle_minutes)
        prefect_server.configure_client(url, home, own=bool(settings.prefect_api_url))
    imported = threading.Event()
    run_beside(_import, live, wanted, imported)

    def ready() -> None:
        imported.wait()
        prefect_server.await_server(url, home, cancellation)

    return ready


def _import(live: bool, wanted: bool, imported: threading.Event) -> None:
    # Looking for garbage again and again is a quarter of the time of these imports, and finds none.
    gc.disable()
    try:
        if live:
            prepare(tools=False)
            # The planner's request, which waited for LiteLLM, goes out before more is imported.
            time.sleep(0.05)
            prepare()
        if wanted:
            with IMPORT_LOCK:
                prefect_server.import_prefect()
            for name in BESIDE:
                with IMPORT_LOCK:
                    importlib.import_module(name)
    finally:
        gc.enable()
        imported.set()


@contextlib.contextmanager
def _time_limit(
    settings: Settings, cancellation: Cancellation, *, run: str = "", spent_s: float = 0.0
) -> Iterator[None]:
    """Cancel after the run's time; `spent_s` is what earlier processes of the same run took of it."""
    seconds = settings.timeout
    if seconds is None:
        yield
        return
    remedy = f"Go on with more: orch resume {run} --timeout {2 * seconds:g}" if run else ""
    reason = RunTimedOut(
        f"The run took longer than its {seconds:g} s.", remedy or "Give it more with ORCH_TIMEOUT."
    )
    timer = threading.Timer(max(0.0, seconds - spent_s), cancellation.cancel, [reason])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
