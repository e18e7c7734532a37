"""Calls of a tool on trial, with their outcomes, and what a case demands of an outcome.

Two ways to call, both in a folder of their own in the sandbox. `fresh` has a sandbox for one call alone: what
a case is judged by. A `Bench` is one sandbox for many calls, each in a process and a folder of its own (see
trial_runner.py): what properties and mutants need, which make hundreds of calls. Either way nothing that a
tool keeps in memory or in its folder is there in the next call.

Files are read back while nothing runs inside, without following links, so that a tool cannot make the host
read what it may not read itself.

`case_fault` compares. Besides its own outcome, every case demands what the specification promises: a JSON
value of the declared type, and no undeclared error. The messages are the same in every run: no times, no
paths of the host.

Not covered: files that are not UTF-8 text or are larger than 1 MB, or past 20 MB in all (they count as
absent), and what a tool leaves in the temporary folder of a bench.
"""

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator_cli.durable.expressions import ExpressionFailed, holds
from orchestrator_cli.durable.text import truncate
from toolsmith.permissions import NO_PERMISSIONS, Permissions
from toolsmith.proof.cases import MEMORY_MB
from toolsmith.sandbox import Backend, Limits, SandboxError
from toolsmith.sandbox.proxy import Dialer
from toolsmith.sandbox.removal import remove
from toolsmith.sandbox.wire import WireError, decode
from toolsmith.spec import Case, ToolSpec
from toolsmith.values import difference, is_of_type, not_json, short_json, type_name

if TYPE_CHECKING:
    from toolsmith.sandbox.executor import SandboxExecutor

_SHOWN = "/workspace"
_MAX_FILE = 1_000_000
_MAX_TOTAL = 20_000_000
_MARGIN_S = 5.0


@dataclass(frozen=True)
class TrialCall:
    """One call, and the workspace before it."""

    arguments: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CallOutcome:
    """The outcome of a call."""

    value: Any = None
    error: str = ""
    """`Type: message` of what it raised."""
    kinds: tuple[str, ...] = ()
    """Names of the type of what it raised, and of all types that it is a kind of."""
    fault: str = ""
    """Why it neither returned nor raised: it was killed, or ended its own process."""
    files: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    memory_mb: float = 0.0
    made: bool = True
    """Whether the call was made at all; a bench leaves calls out when its time is over."""


@dataclass(frozen=True)
class TrialSandboxes:
    """Makes the sandboxes of a trial."""

    backend: Backend
    limits: Limits
    """`wall_s` is for one call."""
    permissions: Permissions = NO_PERMISSIONS
    dialer: Dialer = Dialer()  # noqa: RUF009  (frozen)

    def executor(self, workspace: Path, *, writable: bool, wall_s: float) -> "SandboxExecutor":
        """A sandbox over a folder, which ends a request after `wall_s` seconds."""
        from toolsmith.sandbox.executor import SandboxExecutor  # imports smolagents, which takes seconds

        return SandboxExecutor(
            workspace,
            limits=replace(self.limits, wall_s=wall_s),
            backend=self.backend,
            writable=writable,
            secrets=self.permissions.secrets,
            network=self.permissions.network,
            dialer=self.dialer,
            packages=self.permissions.folder,
            imports=False,
        )

    def fresh(self, spec: ToolSpec, source: str, call: TrialCall) -> CallOutcome:
        """One call in a sandbox and a folder that nothing else has."""
        with self.bench(spec, wall_s=self.limits.wall_s) as bench:
            return bench.alone(source, call)

    @contextmanager
    def bench(self, spec: ToolSpec, *, wall_s: float) -> Iterator["Bench"]:
        """A sandbox for many calls of at most `wall_s` seconds each."""
        with _folder() as workspace:
            writable = spec.workspace == "write"
            with self.executor(workspace, writable=writable, wall_s=_BUDGET_S + wall_s + _MARGIN_S) as made:
                yield Bench(spec, workspace, made, wall_s)


_BUDGET_S = 30.0


@dataclass(frozen=True)
class Bench:
    """A sandbox in which calls are made, each in a process and a folder of its own."""

    spec: ToolSpec
    workspace: Path
    executor: "SandboxExecutor"
    wall_s: float

    def calls(
        self, source: str, calls: Sequence[TrialCall], *, budget_s: float = _BUDGET_S, stop: bool = False
    ) -> list[CallOutcome]:
        """The outcome of each; calls after `budget_s`, or with `stop` after a fault, are not made."""
        if not calls:
            return []
        _empty(self.workspace)
        folders = [str(number) for number in range(len(calls))]
        for folder, call in zip(folders, calls, strict=True):
            (self.workspace / folder).mkdir()
            _lay_out(self.workspace / folder, call.files)
        outcomes = self._perform(source, [*zip(folders, calls, strict=True)], budget_s, stop)
        return [
            _outcome(one, self.workspace / folder, f"{_SHOWN}/{folder}")
            for one, folder in zip(outcomes, folders, strict=True)
        ]

    def alone(self, source: str, call: TrialCall) -> CallOutcome:
        """One call, with the workspace itself as its folder."""
        _lay_out(self.workspace, call.files)
        (reply,) = self._perform(source, [(".", call)], _BUDGET_S, False)
        return _outcome(reply, self.workspace, _SHOWN)

    def _perform(
        self, source: str, calls: Sequence[tuple[str, TrialCall]], budget_s: float, stop: bool
    ) -> list[dict[str, Any] | None]:
        request = {
            "source": source,
            "function": self.spec.name,
            "codec": _text("sandbox/wire.py"),
            "calls": [[folder, dict(call.arguments)] for folder, call in calls],
            "wall_s": self.wall_s,
            "budget_s": min(budget_s, _BUDGET_S),
            "stop": stop,
        }
        try:
            outcomes: list[dict[str, Any] | None] = self.executor.call_tool(
                _text("proof/trial_runner.py"), "perform", request
            )
        except SandboxError as exc:
            return [{"fault": str(exc).splitlines()[0]} for _ in calls]
        return outcomes


@cache
def _text(name: str) -> str:
    return resources.files("toolsmith").joinpath(name).read_text(encoding="utf-8")


def _outcome(reply: dict[str, Any] | None, folder: Path, shown: str) -> CallOutcome:
    if reply is None:
        return CallOutcome(made=False)
    value, error, fault = None, _plain(str(reply.get("error", "")), shown), str(reply.get("fault", ""))
    if "value" in reply:
        try:
            value = decode(reply["value"], lambda text: _plain(text, shown))
        except WireError as exc:
            fault = f"returned no proper value: {exc}"
    memory = float(reply.get("memory_mb", 0))
    if not fault and memory > MEMORY_MB:
        fault = f"took {memory:.0f} MB of memory, and {MEMORY_MB} MB are allowed"
    return CallOutcome(
        value=value,
        error=error.splitlines()[0] if error else "",
        kinds=tuple(reply.get("kinds", ())),
        fault=fault,
        files=dict(_texts(folder)),
        seconds=float(reply.get("seconds", 0)),
        memory_mb=memory,
    )


def _plain(text: str, shown: str) -> str:
    """A text in which the folder of one call of many is called what it is to a tool: the workspace."""
    return text if shown == _SHOWN else text.replace(shown, _SHOWN)


@contextmanager
def _folder() -> Iterator[Path]:
    folder = tempfile.mkdtemp(prefix="trial-")
    try:
        yield Path(folder).resolve()
    finally:
        remove(Path(folder))


def _empty(workspace: Path) -> None:
    for entry in _entries(str(workspace)):
        if entry.is_dir(follow_symlinks=False):
            remove(Path(entry.path))
        else:
            os.unlink(entry.path)  # noqa: PTH108  (a name of any bytes)


def _lay_out(workspace: Path, texts: Mapping[str, str]) -> None:
    for path, text in texts.items():
        file = workspace / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="")


def _texts(workspace: Path) -> Iterator[tuple[str, str]]:
    """Path and text of the text files, in a certain order, up to a total size."""
    folders, left = [str(workspace)], _MAX_TOTAL
    while folders:
        for entry in _entries(folders.pop()):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif (text := _text_of(entry.path)) is not None and len(text) <= left:
                left -= len(text)
                yield Path(entry.path).relative_to(workspace).as_posix(), text


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _text_of(file: str) -> str | None:
    """The text of a regular file; None for links, pipes, large and binary files."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as content:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        data = content.read(_MAX_FILE + 1)
    try:
        return data.decode() if len(data) <= _MAX_FILE else None
    except UnicodeDecodeError:
        return None


def case_fault(spec: ToolSpec, case: Case, outcome: CallOutcome) -> str:
    """All that is wrong with a case's outcome, on one line; empty when nothing is."""
    # Half a surrogate pair from the tool must not travel on into prompts and files.
    return "; ".join(_faults(spec, case, outcome)).encode(errors="backslashreplace").decode()


def value_fault(spec: ToolSpec, value: object) -> str | None:
    """Why a value cannot be what the specification promises; None when it can."""
    if problem := not_json(value):
        return f"{problem}; return plain JSON values"
    if not is_of_type(value, spec.output_type):
        found = f"returned {short_json(value)}, which is {type_name(value)}"
        return f"{found}; the output_type is {spec.output_type}"
    return None


def check_fault(
    check: str, value: object, files: Mapping[str, str], arguments: Mapping[str, object]
) -> str | None:
    """Why a check is not true of a call; None when it is."""
    try:
        if holds(check, {"value": value, "files": dict(files), "arguments": dict(arguments)}):
            return None
    except ExpressionFailed as exc:
        return f"{check} could not be checked ({exc}); it returned {short_json(value)}"
    return f"{check} is not true; it returned {short_json(value)}"


def shortened(text: str) -> str:
    """The beginning of a text, long enough to tell."""
    return truncate(text, 200)


def _faults(spec: ToolSpec, case: Case, outcome: CallOutcome) -> Iterator[str]:
    if fault := _fault(spec, case, outcome):
        yield fault
    for path, text in case.files_after.items():
        place = f"files_after[{path!r}]"
        if text is None and path in outcome.files:
            yield f"{place}: must not exist, but does"
        elif text is not None and path not in outcome.files:
            yield f"{place}: does not exist"
        elif text is not None and (problem := difference(text, outcome.files[path], place)):
            yield problem


def _fault(spec: ToolSpec, case: Case, outcome: CallOutcome) -> str | None:
    if outcome.fault:
        return f"expected {_wanted(case)}, but it {outcome.fault}"
    if case.outcome == "error" and case.error in outcome.kinds:
        return None
    if case.outcome == "error" and not outcome.error:
        return f"expected {_wanted(case)}, but it returned {short_json(outcome.value)}"
    if outcome.error:
        return f"expected {_wanted(case)}, but it raised {shortened(outcome.error)}"
    if problem := not_json(outcome.value):
        return f"{problem}; return plain JSON values"
    if case.outcome == "expected":
        return difference(case.expected, outcome.value)
    return value_fault(spec, outcome.value) or check_fault(
        case.check, outcome.value, outcome.files, case.arguments
    )


def _wanted(case: Case) -> str:
    if case.outcome == "error":
        return f"{case.error} to be raised"
    return short_json(case.expected) if case.outcome == "expected" else f"a value for which {case.check}"
