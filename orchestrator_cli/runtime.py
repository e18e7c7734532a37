"""`open_run`: opens the services of a run; configuration errors surface before slow work starts."""

import contextlib
import hashlib
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from orchestrator_cli.approvals.broker import ApprovalBroker
from orchestrator_cli.approvals.deadlines import Patience
from orchestrator_cli.approvals.effects import Effects
from orchestrator_cli.approvals.inbox import Inbox, inbox_thread
from orchestrator_cli.approvals.page_mirror import QuestionMirror
from orchestrator_cli.approvals.permissions import PermissionGate
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.data_folder import exchangeable
from orchestrator_cli.durable.files import naming
from orchestrator_cli.durable.held_folder import HeldFolder
from orchestrator_cli.environment import search_provider
from orchestrator_cli.errors import ConfigError, HomeReplaced, UsageError, storage_faults
from orchestrator_cli.events import Event, Noticed
from orchestrator_cli.execution.attempt import MakeAttempt
from orchestrator_cli.execution.kinds import run_attempt
from orchestrator_cli.execution.resume import check_resumable
from orchestrator_cli.execution.run import Run
from orchestrator_cli.execution.time_limit import time_limit
from orchestrator_cli.execution.tool_registry import ToolRegistry
from orchestrator_cli.journal.followed_runs import follow
from orchestrator_cli.journal.journal import CatchesUp, EventStream, EventView, read_journal, run_lock
from orchestrator_cli.journal.redaction import RedactedModel, Redactor
from orchestrator_cli.mcp_client.servers import Servers
from orchestrator_cli.models.chain import ModelChain
from orchestrator_cli.models.search import WebSearch
from orchestrator_cli.models.sources import LiveModels, ModelSource
from orchestrator_cli.process_limits import check_process_limits
from orchestrator_cli.recall.fault_notices import FaultNotices
from orchestrator_cli.recall.guidance import find_guidance
from orchestrator_cli.recall.knowledge import KnowledgeReader
from orchestrator_cli.recall.run_memory import RunMemory, open_dense, open_memory
from orchestrator_cli.recall.scopes import workspace_scope
from orchestrator_cli.recall.skills import SkillReader
from orchestrator_cli.roles import Role, askable, load_roles
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import fold
from orchestrator_cli.state.duplicate_code import DuplicateCodeDetector
from orchestrator_cli.surroundings import Surroundings, surroundings_of
from orchestrator_cli.tools.files import SKILLS
from orchestrator_cli.views.filelog import FileLog
from orchestrator_cli.warm_up import start_engine
from orchestrator_cli.workspace import CommitLimits, Workspace
from toolsmith.library import Library
from toolsmith.sandbox import Backend, SandboxUnavailable, SelfTestFault, choose_backend
from toolsmith.sandbox.probe import choose_afresh
from toolsmith.sandbox.proxy import Dialer

MAX_PROMPT_CHARS = 200_000


@contextlib.contextmanager
def open_run(
    settings: Settings,
    views: Iterable[EventView],
    *,
    source: ModelSource = LiveModels(),  # noqa: B008 - it is frozen
    resumed: str = "",
    named: str = "",
    wants_engine: bool = True,
    attended: bool = False,
    patience: Patience | None = None,
    unsafe: str = "",
    occasion: str = "",
    dialer: Dialer = Dialer(),  # noqa: B008 - it is frozen
    make_attempt: MakeAttempt = run_attempt,
) -> Iterator[Run]:
    """The services of one run, closed at the end.

    Args:
        views: get every event; they are closed at the end.
        source: where the replies of models come from.
        resumed: the id of the run to resume, instead of a new one.
        named: the id of the new run; by default one is made.
        wants_engine: whether the plan will be run; `orch plan` needs no Prefect.
        attended: whether someone is there who can answer questions while the run goes on.
        patience: how long questions are open while no one is there; None for no limit.
        unsafe: run code WITHOUT A SANDBOX; says how the user has allowed that.
        occasion: what sets a new run off, besides its prompt; a resumed run keeps its own.
        dialer: resolves and checks the addresses of what may be reached.
        make_attempt: makes the attempts at subtasks, in this process or elsewhere.

    Raises `UsageError`, `ConfigError` and `StorageFault`, each before any work is done.
    """
    began = time.monotonic()
    check_process_limits()
    cancellation = Cancellation()
    run = resumed or named or new_run_id()
    workspace = Workspace(
        settings.workspace,
        settings.home,
        settings.workspace_max_mb,
        run=run,
        own=settings.own_places,
        allowed=settings.allow_protected,
        limits=CommitLimits(settings.commit_max_mb, settings.commit_max_files),
        cancellation=cancellation,
        mark=settings.origin.mark,
    )
    _check_home(settings.home)
    home, views = _Home(settings.home), list(views)
    for view in views:
        if isinstance(view, FileLog) and view.path.parent.resolve() == workspace.root:
            workspace.check_is(view.folder)
    names, found_model = source.choose(settings)
    roles, lost = askable(load_roles(settings.home), source.missing)
    others = settings.alternatives if source.is_live else ()
    chosen = _Chosen(names, tuple(name for name in others if not source.missing(name)), roles, lost)
    backend = choose_backend("unsafe") if unsafe else choose_sandbox(settings)
    brought = find_guidance(settings, wanted=not source.is_repeatable)
    with storage_faults(), ExitStack() as closing:
        closing.callback(workspace.close)
        record = _open_record(closing, settings, run, views, home.check, is_resumed=bool(resumed))
        stream = record.stream
        goes_on = run if wants_engine else ""
        limited = closing.enter_context(ExitStack())
        limited.enter_context(
            time_limit(
                settings,
                cancellation,
                run=lambda: goes_on if stream.state.started else "",
                spent_s=stream.state.seconds + time.monotonic() - began,
            )
        )
        engine = start_engine(
            closing, settings, cancellation, run, source, wants_engine, bool(resumed or named)
        )
        models = _open_models(settings, source, chosen, record, cancellation, goes_on)
        broker = ApprovalBroker(
            stream.emit,
            policy={*settings.approve, *(stream.state.started.approve if stream.state.started else ())},
            yes=_says_yes(settings),
            attended=attended,
            before=stream.state.given.values(),
            patience=patience,
            asked_before=stream.state.asked,
        )
        folder = settings.home / "runs" / run
        skills = brought.open_skills(folder, SKILLS)
        if skills is not None:
            closing.callback(skills.close)
        opened = _open_services(
            closing,
            settings,
            record,
            models,
            source,
            broker,
            cancellation,
            workspace,
            backend,
            dialer,
            skills,
        )
        here = Surroundings() if source.is_repeatable else surroundings_of(workspace.root)
        occasion = stream.state.occasion if resumed else occasion
        inbox = Inbox(folder, broker, cancellation, stream.emit, lambda: stream.state)
        if engine is not None:
            own = engine.is_on_own_server
            mirror = QuestionMirror(engine.outbox, folder, broker, lambda: stream.state, is_own=own)
            engine.outbox.attend(mirror.look, mirror.details)
        with inbox_thread(inbox) if wants_engine else contextlib.nullcontext(), limited:
            yield Run(
                id=run,
                settings=settings,
                stream=stream,
                model=models.model,
                meter=models.meter,
                source=source,
                model_names=chosen.names,
                found_model=found_model,
                alternatives=chosen.alternatives,
                roles=chosen.roles,
                lost_models=chosen.lost,
                workspace=workspace,
                surroundings=here.model_copy(update={"occasion": occasion}),
                guidance=brought.guidance(settings),
                skills=skills.folder if skills else None,
                left_out=(*brought.notices, *workspace_notices(workspace.root)),
                backend=backend,
                sandbox=f"{backend.detail}; allowed by {unsafe}" if unsafe else backend.name,
                registry=opened.registry,
                memory=opened.memory,
                broker=broker,
                gate=opened.gate,
                effects=opened.effects,
                masks=record.masks,
                duplicates=DuplicateCodeDetector(event.data for event in record.found),
                cancellation=cancellation,
                engine=engine,
                make_attempt=make_attempt,
            )


def _says_yes(settings: Settings) -> Literal["", "flag", "settings"]:
    """What answers every question with yes, as the log names it; empty if a person answers."""
    return "" if not settings.yes else "flag" if "yes" in settings.origin.flags else "settings"


def workspace_notices(root: Path) -> Iterator[str]:
    """What a user should know about the place of a workspace."""
    if why := exchangeable(root):
        yield f"Other users may put another folder in the place of this workspace: {why}. A run stops then."


# --- the record: lock, journal, state


@dataclass(frozen=True)
class _Record:
    stream: EventStream
    found: list[Event]
    """What the journal held when the run was opened."""
    masks: Redactor


def _open_record(
    closing: ExitStack,
    settings: Settings,
    run: str,
    views: Iterable[EventView],
    check: Callable[[], None],
    *,
    is_resumed: bool,
) -> _Record:
    """The run's lock, journal and state. Raises `UsageError` if it is taken or cannot be resumed."""
    folder, masks, views = settings.home / "runs" / run, Redactor(), list(views)
    closing.enter_context(run_lock(folder))
    follow(folder / "journal.jsonl")
    if not is_resumed and not RUN_ID.fullmatch(run):
        raise UsageError(f"{run} is not the id of a run.")
    if not is_resumed and (folder / "journal.jsonl").exists():
        raise UsageError(f"There is a run {run} already.", f"Go on with it: orch resume {run}")
    found = list(read_journal(folder / "journal.jsonl")) if is_resumed else []
    state = fold(found)
    if is_resumed:
        check_resumable(state)
    for view in views:
        if isinstance(view, CatchesUp):
            view.catch_up(found)
    stream = EventStream(run, folder / "journal.jsonl", views, state=state, redact=masks, check=check)
    closing.callback(stream.close)
    return _Record(stream, found, masks)


# --- the models


@dataclass(frozen=True)
class _Chosen:
    """Which models and roles a run has."""

    names: dict[str, str]
    alternatives: tuple[str, ...]
    roles: dict[str, Role]
    lost: dict[str, Role]


def _open_models(
    settings: Settings,
    source: ModelSource,
    chosen: _Chosen,
    record: _Record,
    cancellation: Cancellation,
    goes_on: str,
) -> ModelChain:
    named = [*chosen.alternatives, *(role.model for role in chosen.roles.values() if role.model)]
    dense = [name] if (name := settings.memory.provider_dense) else []
    emit, used = record.stream.emit, record.stream.state.usage
    models = source.open(settings, chosen.names, [*named, *dense], cancellation, emit, used=used, run=goes_on)
    return ModelChain(RedactedModel(models.model, record.masks), models.meter)


# --- the services


@dataclass(frozen=True)
class _Services:
    registry: ToolRegistry
    memory: RunMemory
    gate: PermissionGate
    effects: Effects


def _open_services(
    closing: ExitStack,
    settings: Settings,
    record: _Record,
    models: ModelChain,
    source: ModelSource,
    broker: ApprovalBroker,
    cancellation: Cancellation,
    workspace: Workspace,
    backend: Backend,
    dialer: Dialer,
    skills: SkillReader | None,
) -> _Services:
    """Permissions, tools and memory."""
    stream, masks, state = record.stream, record.masks, record.stream.state

    def notice(text: str) -> None:
        stream.emit(Noticed(message=text))

    gate = PermissionGate(
        broker, settings, masks=masks, cancellation=cancellation, notice=notice, dialer=dialer
    )
    library = Library(settings.home / "tools")
    store = open_memory(settings, notice)
    closing.callback(store.close)
    dense, servers = None, None
    if source.is_live:
        meter = models.meter
        dense = open_dense(settings, notice, cancellation=cancellation, meter=meter, mask=masks)
        for text in settings.origin.notices:
            notice(text)
        if settings.mcp:
            servers = Servers(
                settings,
                root=workspace.root,
                broker=broker,
                masks=masks,
                emit=stream.emit,
                cancellation=cancellation,
            )
            closing.callback(servers.close)
    failed = FaultNotices(notice)
    knowledge = KnowledgeReader(settings, failed, dense)
    here = workspace_scope(workspace.root, settings.memory.owner)
    seen = here if settings.memory.workspaces == "own" else here.user_wide
    memory = RunMemory(store, dense, library, masks, failed, here, seen, knowledge.embed)
    registry = ToolRegistry(
        library,
        network=settings.network,
        allow_protected=settings.allow_protected,
        model=models.model,
        backend=backend,
        gate=gate,
        emit=stream.emit,
        masks=masks,
        recall=memory.tools_like,
        run=stream.run,
        servers=servers,
        knowledge=knowledge,
        skills=skills,
        search=WebSearch(service) if (service := settings.search or search_provider()) else None,
    )
    registry.restore(state.made, state.borrowed, state.had)
    effects = Effects(
        stream.run,
        broker=broker,
        emit=stream.emit,
        policy=settings.effects,
        before=(*state.effects.values(), *state.ended.values()),
    )
    return _Services(registry, memory, gate, effects)


def choose_sandbox(settings: Settings, *, afresh: bool = False) -> Backend:
    """The sandbox of the settings. Raises `ConfigError` if it does not work."""
    choose = choose_afresh if afresh else choose_backend
    try:
        return choose(None if settings.sandbox == "auto" else settings.sandbox, settings.sandbox_verdicts)
    except SelfTestFault as exc:
        raise ConfigError(*str(exc).split("\n", 1)) from exc
    except SandboxUnavailable as exc:
        if settings.sandbox == "auto":
            message, remedy = "No sandbox works here, so code written by a model cannot be run.", str(exc)
        else:
            message = f"The setting sandbox names {settings.sandbox}, which does not work here."
            remedy = f"{str(exc).splitlines()[0]}\nWithout the setting, the best one that works is chosen."
        raise ConfigError(message, remedy) from exc


# --- before there is a run


RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")


def new_run_id() -> str:
    """Unique, and begins with the time for people; when a run began is in its journal."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"


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


def _check_home(home: Path) -> None:
    """Raise `ConfigError` if the data folder cannot be made or written to."""
    probe = home / f".orch-{uuid.uuid4().hex[:12]}.tmp"
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with probe.open("xb", buffering=0) as file, naming(file.fileno()):
                file.write(b"written")
        finally:
            probe.unlink(missing_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"The data folder {home} cannot be written to: {exc.strerror}.",
            "Free some space, mend its permissions, or name another folder in ORCH_HOME.",
        ) from exc


class _Home:
    """The data folder of a run: an open folder, not a name."""

    def __init__(self, path: Path) -> None:
        self._held = HeldFolder(path)

    def check(self) -> None:
        """Raise `HomeReplaced` if its path leads to another folder now, or to none."""
        if not self._held.is_there():
            raise HomeReplaced(
                f"The data folder {self._held.path} is not the one any more that the run began with: it was "
                "moved, replaced or deleted meanwhile.",
                "Put it back.",
            )
