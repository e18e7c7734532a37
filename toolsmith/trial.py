"""The trial: every case of a tool, run in the sandbox, each in a fresh folder and a fresh sandbox.

Fresh on purpose: a tool that keeps something between calls, in memory or on disk, must not pass by it. The
workspace can be changed only where the specification says `write`. Domains and secrets are those that were
permitted, and no others.

A `detail` is the same text in every run: no times, no paths of the host. Files are read back after the
sandbox has ended, without following links, so that a tool cannot make the host read what it may not read
itself.

Not covered: results that differ from run to run by chance or with what a server says, and files that are no
UTF-8 text or are larger than 1 MB, or past 20 MB in all (they count as absent in `files` and
`files_after`)."""

import builtins
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolsmith.built import CaseResult, TrialReport
from toolsmith.cases import Suite
from toolsmith.expressions import CheckFailed, holds
from toolsmith.permissions import NOTHING, Permissions
from toolsmith.sandbox import Backend, Limits, SandboxError, choose_backend
from toolsmith.sandbox.executor import SandboxExecutor
from toolsmith.sandbox.proxy import Dialer
from toolsmith.spec import Case, ToolSpec
from toolsmith.values import difference, not_json, shown

_MAX_FILE = 1_000_000
_MAX_TOTAL = 20_000_000


def try_tool(
    spec: ToolSpec,
    suite: Suite,
    source: str,
    *,
    backend: Backend | None = None,
    limits: Limits | None = None,
    permissions: Permissions = NOTHING,
    dialer: Dialer | None = None,
) -> TrialReport:
    """Run all cases on the module `source`, also after a failure, and say what each gave.

    Raises:
        SandboxUnavailable: no sandbox works on this system, or it cannot be granted connections. What the
            tool itself does wrong is in the report.
    """
    room = _Room(backend or choose_backend(), limits or Limits(), permissions, dialer or Dialer())
    results = tuple(_try_case(spec, source, case, room) for case in suite.of(spec))
    passed = all(result.passed for result in results)
    return TrialReport(passed=passed, results=results, lock=room.permissions.lock)


@dataclass(frozen=True)
class _Room:
    """What every case's sandbox is made of."""

    backend: Backend
    limits: Limits
    permissions: Permissions
    dialer: Dialer

    def executor(self, workspace: Path, *, writable: bool) -> SandboxExecutor:
        return SandboxExecutor(
            workspace,
            limits=self.limits,
            backend=self.backend,
            writable=writable,
            secrets=self.permissions.secrets,
            network=self.permissions.network,
            dialer=self.dialer,
            packages=self.permissions.folder,
        )


@dataclass(frozen=True)
class _Outcome:
    value: Any
    error: str
    """`Type: message` of what the call raised, or what the sandbox says; empty when it returned."""
    files: dict[str, str]


def _try_case(spec: ToolSpec, source: str, case: Case, room: _Room) -> CaseResult:
    with _fresh_folder() as workspace:
        _lay_out(workspace, case.files)
        started = time.monotonic()
        value, error = _call(spec, source, case, workspace, room)
        seconds = time.monotonic() - started
        outcome = _Outcome(value, error, dict(_texts(workspace)))
        # Half a surrogate pair from the tool must not travel on into prompts and files.
        detail = "; ".join(_faults(case, outcome)).encode(errors="backslashreplace").decode()
    return CaseResult(title=case.title, passed=not detail, detail=detail, seconds=round(seconds, 3))


@contextmanager
def _fresh_folder() -> Iterator[Path]:
    folder = tempfile.mkdtemp(prefix="trial-")
    try:
        yield Path(folder).resolve()
    finally:
        try:
            shutil.rmtree(folder, ignore_errors=True)
        except RecursionError:  # a tool can nest folders deeper than rmtree goes before Python 3.13
            subprocess.run(["rm", "-rf", "--", folder], check=False, stderr=subprocess.DEVNULL)


def _lay_out(workspace: Path, texts: dict[str, str]) -> None:
    for path, text in texts.items():
        file = workspace / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="")


def _call(spec: ToolSpec, source: str, case: Case, workspace: Path, room: _Room) -> tuple[Any, str]:
    try:
        with room.executor(workspace, writable=spec.workspace == "write") as executor:
            return executor.call_tool(source, spec.name, dict(case.arguments)), ""
    except SandboxError as exc:
        return None, str(exc).splitlines()[0]  # `Type: message`; the frames below it say where


def _exception(name: str) -> type[BaseException] | None:
    kind = getattr(builtins, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, BaseException) else None


def _faults(case: Case, outcome: _Outcome) -> Iterator[str]:
    if fault := _fault(case, outcome):
        yield fault
    for path, text in case.files_after.items():
        place = f"files_after[{path!r}]"
        if text is None and path in outcome.files:
            yield f"{place}: must not exist, but does"
        elif text is not None and path not in outcome.files:
            yield f"{place}: does not exist"
        elif text is not None and (told := difference(text, outcome.files[path], place)):
            yield told


def _fault(case: Case, outcome: _Outcome) -> str | None:
    if case.outcome == "error":
        return _error_fault(case.error, outcome)
    if outcome.error:
        wanted = shown(case.expected) if case.outcome == "expected" else f"a value for which {case.check}"
        return f"expected {wanted}, but it raised {_short(outcome.error)}"
    if told := not_json(outcome.value):
        return f"{told}; return plain JSON values"
    if case.outcome == "expected":
        return difference(case.expected, outcome.value)
    return _check_fault(case, outcome)


def _error_fault(wanted: str, outcome: _Outcome) -> str | None:
    if not outcome.error:
        return f"expected {wanted} to be raised, but it returned {shown(outcome.value)}"
    name = outcome.error.split(":", 1)[0]
    raised, expected = _exception(name), _exception(wanted)
    if name == wanted or (raised and expected and issubclass(raised, expected)):
        return None
    return f"expected {wanted} to be raised, but it raised {_short(outcome.error)}"


def _check_fault(case: Case, outcome: _Outcome) -> str | None:
    try:
        if holds(case.check, outcome.value, outcome.files, case.arguments):
            return None
    except CheckFailed as exc:
        return f"{case.check} could not be checked ({exc}); it returned {shown(outcome.value)}"
    return f"{case.check} is not true; it returned {shown(outcome.value)}"


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:199] + "…"


def _texts(workspace: Path) -> Iterator[tuple[str, str]]:
    """Path and text of the text files, in a certain order, up to a total size."""
    folders, left = [str(workspace)], _MAX_TOTAL
    while folders:
        for entry in _entries(folders.pop()):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif (text := _text(entry.path)) is not None and len(text) <= left:
                left -= len(text)
                yield Path(entry.path).relative_to(workspace).as_posix(), text


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _text(file: str) -> str | None:
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
