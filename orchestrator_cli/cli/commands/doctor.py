"""`orch doctor`: tries everything that a run needs. Each finding says what it is and what to do about it."""

import importlib.metadata
import importlib.util
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import typer

from memory import MemoryAway
from memory.dense import count_missing
from orchestrator_cli.cli.options import InspectOptions, Output, with_options
from orchestrator_cli.cli.reporting import print_json, reporting, settings_of
from orchestrator_cli.data_folder import exchangeable
from orchestrator_cli.durable.foreign import foreign_line
from orchestrator_cli.engine import server as prefect_server
from orchestrator_cli.engine.connection import check_server
from orchestrator_cli.environment import for_programs
from orchestrator_cli.errors import ConfigError, OrchError
from orchestrator_cli.models.default_models import read_list, retirement
from orchestrator_cli.models.discovery import find_model, provider_of
from orchestrator_cli.models.local_servers import bare_address, connection_fault, server_of
from orchestrator_cli.models.sources import LiveModels
from orchestrator_cli.plan import FrozenModel
from orchestrator_cli.recall.guidance import find_guidance
from orchestrator_cli.recall.run_memory import open_memory
from orchestrator_cli.recall.scopes import user_scope
from orchestrator_cli.roles import load_roles
from orchestrator_cli.runtime import choose_sandbox, workspace_notices
from orchestrator_cli.settings import Settings, user_file
from orchestrator_cli.trust import question_lines, refuse
from orchestrator_cli.views.filelog import check_log
from orchestrator_cli.views.notify_channels import channels, faults
from orchestrator_cli.views.otlp_address import otlp_address
from orchestrator_cli.views.telemetry import is_installed
from orchestrator_cli.views.text import counted
from orchestrator_cli.workspace import Workspace
from toolsmith.sandbox import Backend, Limits
from toolsmith.sandbox.probe import hint_for, rejected_backends, self_test

app = typer.Typer(rich_markup_mode=None)

PARTS = ("prefect", "smolagents", "litellm", "qdrant-edge-py", "qdrant-client")

SOON_DAYS = 60
"""A model that retires within this time is warned of."""


class Finding(FrozenModel):
    name: str
    ok: bool
    detail: str
    remedy: str = ""


@app.command()
@with_options
def doctor(common: InspectOptions) -> None:
    """Check that everything orch needs is there, and say what to do about what is missing."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        findings = examine(settings_of(common.workspace))
        if common.as_json:
            print_json([finding.model_dump(mode="json") for finding in findings])
        else:
            console.lines(report_lines(findings))
        raise typer.Exit(0 if all(finding.ok for finding in findings) else 3)


def examine(settings: Settings) -> list[Finding]:
    """Try everything that a run needs. Raises nothing: what does not work is a finding."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("python", lambda: f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("parts", lambda: ", ".join(f"{part} {importlib.metadata.version(part)}" for part in PARTS)),
        ("charts", _charts),
        ("settings", lambda: _files(settings)),
        ("guidance", lambda: _guidance(settings)),
        ("model", lambda: _models(settings)),
        ("workspace", lambda: _workspace(settings)),
        ("sandbox", lambda: _sandbox(settings)),
        ("memory", lambda: _memory(settings)),
        ("notify", lambda: _notify(settings)),
        ("events", lambda: _events(settings)),
        ("prefect", lambda: _prefect(settings)),
    ]
    return [_try(name, check) for name, check in checks]


def _notify(settings: Settings) -> str:
    if found := list(faults(settings.notify)):
        raise ConfigError(f"{'; '.join(found)}.", "Correct [notify], and try it with: orch notify test")
    names = [name for name, _ in channels(settings.notify)]
    return ", ".join(names) if names else "nothing is set: you are not notified when a run is done"


def _events(settings: Settings) -> str:
    """Whether hooks and spans can work, without anything being started or sent."""
    commands = [hook.command[0] for hook in settings.hooks]
    if missing := [name for name in commands if shutil.which(name) is None]:
        raise ConfigError(f"A hook's program is not there: {missing[0]}.", "Correct [[hooks]].")
    address = otlp_address(settings.otel.endpoint, for_programs())
    if address is not None and not is_installed():
        raise ConfigError(
            "Spans cannot be sent: the packages of the extra otel are not installed.",
            "Install orchestrator-cli with the extra otel, or take the address away.",
        )
    sent = "no address for spans is set" if address is None else f"spans go to {address.host}"
    return f"{counted(len(commands), 'hook')}; {sent}"


def report_lines(findings: list[Finding]) -> list[str]:
    lines = []
    for finding in findings:
        first, *more = finding.detail.splitlines() or [""]
        lines.append(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name:<10} {first}")
        lines += [f"{'':<17}{line}" for line in (*more, *finding.remedy.splitlines())]
    return lines


def _try(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name=name, ok=True, detail=check())
    except OrchError as exc:
        return Finding(name=name, ok=False, detail=exc.message, remedy=exc.remedy)
    except Exception as exc:  # an unexpected error is a finding too
        return Finding(name=name, ok=False, detail=f"{type(exc).__name__}: {exc}")


def _charts() -> str:
    """Whether code finds what it needs for tables and charts."""
    missing = [name for name in ("pandas", "matplotlib") if importlib.util.find_spec(name) is None]
    if not missing:
        return "code can draw them: pandas and matplotlib are installed"
    return (
        f"warning: code cannot draw them, because {' and '.join(missing)} cannot be imported; "
        "install orch with its extra data (docs/install.md)"
    )


def _files(settings: Settings) -> str:
    left_out = settings.origin.left_out
    if left_out is not None and left_out.uses_file:
        refuse(left_out)
    files = [path for path in (settings.workspace / "orch.toml", user_file()) if path.is_file()]
    asked = question_lines(left_out) if left_out is not None else []
    read = f"home {settings.home}; read {', '.join(map(str, files)) or 'no orch.toml'}"
    return "\n".join([read, *asked, *settings.origin.notices, *_exchangeable_programs(settings)])


def _exchangeable_programs(settings: Settings) -> Iterator[str]:
    """What runs with the user's rights, by its path, and could be something else tomorrow."""
    programs: dict[str, Sequence[str]] = {"notify.command": settings.notify.command}
    for name, process in settings.processes.items():
        programs[f"the process {name}"] = *process.command, (process.flow or "").rpartition(":")[0]
    for name, parts in programs.items():
        for path in (Path(part) for part in parts if part.startswith("/")):
            if path.exists() and (why := exchangeable(path)):
                yield f"warning: {name} runs {path}, which other users may exchange: {why}"


def _guidance(settings: Settings) -> str:
    """Which instructions and skills models are given, and which not."""
    brought = find_guidance(settings)
    used = ", ".join(foreign_line(label, 200) for label in brought.guidance(settings).labels)
    return "\n".join([used or "no instructions and no skills", *brought.notices])


def _models(settings: Settings) -> str:
    names = LiveModels().names(settings)
    lines = [", ".join(f"{role} {name}" for role, name in names.items())]
    if any(settings.model_for(role) is None for role in names):
        found = find_model()
        lines.append(f"{found.model}: {found.why}")
    others = (*settings.fallbacks, *settings.models.agent_alternatives, settings.memory.provider_dense or "")
    roles = [role.model or "" for role in load_roles(settings.home).values()]
    today, listed = datetime.now(UTC).date(), read_list()
    for name in dict.fromkeys([*names.values(), *others, *roles]):
        if (day := retirement(name, listed)) and (day - today).days <= SOON_DAYS:
            when = f"retires on {day}" if day >= today else f"was to retire on {day}"
            lines.append(f"warning: {name} {when}; name another one in its place")
    servers = dict.fromkeys(server_of(provider_of(name)) for name in names.values())
    for variable, address in servers:
        if address and (fault := connection_fault(address)):
            message = f"The server at {bare_address(address)} cannot be reached: {fault}."
            raise OrchError(message, "\n".join([f"Start it, or set {variable} to another address.", *lines]))
    return "\n".join(lines)


def _workspace(settings: Settings) -> str:
    workspace = Workspace(settings.workspace, settings.home, settings.workspace_max_mb)
    check_log(workspace.root / "fileLog.md")
    found = workspace.listing()
    files = f"{workspace.root}, {'' if found.is_whole else 'at least '}{len(found.paths):,} files"
    return "\n".join([files, *(f"warning: {text}" for text in workspace_notices(workspace.root))])


def _sandbox(settings: Settings) -> str:
    """Try to get out of the sandbox, and say how well it holds."""
    backend = choose_sandbox(settings, afresh=True)
    started = time.monotonic()
    found = self_test(backend)
    took = time.monotonic() - started
    if not found.passed:
        faults = [f"can {what}" for what in found.escaped] + [f"cannot {what}" for what in found.missing]
        raise OrchError(f"{backend.detail}: {found}; code inside {', '.join(faults)}", "Run no prompts here.")
    values = vars(Limits())  # of a step: each limit, its default, and how strictly it is kept
    return "\n".join(
        [
            f"{backend.detail}; {found}, in {took:.1f} s",
            *_passed_over(settings, backend),
            *(
                f"{kept.limit:<12} {values[kept.limit]:>6g}  {kept.grade:<15} {kept}"
                for kept in backend.enforcement
            ),
        ]
    )


def _passed_over(settings: Settings, backend: Backend) -> Iterator[str]:
    """Why a better backend is not used, how to get it, and what is different without it."""
    failures = rejected_backends(None if settings.sandbox == "auto" else settings.sandbox)
    if not failures:
        return
    yield from (f"{name} cannot be used: {why}" for name, why in failures.items())
    yield from hint_for(failures).splitlines()
    yield f"What changes under {backend.name}:"
    yield from (f"- {sentence}" for sentence in backend.weaknesses)


def _memory(settings: Settings) -> str:
    said: list[str] = []
    store, dense = open_memory(settings, said.append), settings.memory.dense_model
    try:
        user = user_scope(settings)
        runs, tools = store.count("run", user), store.count("tool", user)
        without = count_missing(store, dense, user) if dense else 0
    except MemoryAway as exc:
        raise OrchError(
            str(exc), "Until then, runs go on and recall nothing; what they remember waits."
        ) from exc
    finally:
        store.close()
    url = settings.memory.url
    where = f"{url} for {user.user}" if url else str(settings.home / "memory")
    found = f"searched by words and by vectors of {dense}" if dense else "searched by words"
    lack = f", but for {counted(without, 'record')} without one: orch memory embed" if without else ""
    kept = f"{counted(runs, 'run')} and {counted(tools, 'tool')} remembered in {where}"
    return "\n".join([kept, f"{found}{lack}", *said])


def _prefect(settings: Settings) -> str:
    if settings.prefect_api_url:
        check_server(settings.prefect_api_url)
        return f"your own server at {settings.prefect_api_url}"
    found = prefect_server.running_server(settings.prefect_home or settings.home)
    if found is None:
        return "no local server runs; the next run starts one"
    where = f"local server at {prefect_server.ui_address(found.url)} (process {found.pid})"
    if not prefect_server.requires_password(found):
        raise OrchError(f"{where} answers without its password", f"End it: kill {found.pid}")
    return f"{where}; it refuses requests without its password\nIts page: orch ui"
