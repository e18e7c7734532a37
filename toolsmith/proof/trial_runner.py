"""The program inside a sandbox that calls a tool many times, each call in a process of its own.

Its source is loaded there like a tool's (see calls.py), so it is standard library only. A call starts from a
process that has never run the tool, and its process ends with it: nothing that a tool keeps in memory is
there in the next call. The parent measures time and memory, and ends what takes too long.

Not covered: what a tool leaves on disk outside its folder. The folder is the host's part.
"""

import ast
import json
import os
import resource
import select
import signal
import sys
import time
import types
from typing import Any

MAX_BYTES = 2_000_000
MAX_MESSAGE = 4_000
_PER_MB = 1 << 20 if sys.platform == "darwin" else 1 << 10


def perform(
    source: str, function: str, codec: str, calls: list[Any], wall_s: float, budget_s: float, stop: bool
) -> list[Any]:
    """What each call gave: `[folder, arguments]` of each in order, at most `wall_s` seconds for one.

    A call that is not made any more, because `budget_s` is over or, with `stop`, a call before it was ended,
    is None.
    """
    encoding = types.ModuleType("codec")
    exec(codec, encoding.__dict__)
    try:
        code = compile(source, f"<tool {function}>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        return [_raised(error) for _ in calls]
    _load_what_it_imports(source)
    outcomes: list[Any] = []
    until, ended = time.monotonic() + budget_s, False
    for folder, arguments in calls:
        if time.monotonic() > until or (stop and ended):
            outcomes.append(None)
            continue
        outcome = _apart(code, function, folder, arguments, wall_s, encoding.encode)
        ended = "fault" in outcome
        outcomes.append(outcome)
    return outcomes


def _load_what_it_imports(source: str) -> None:
    """Loads modules of the standard library once, so that not every call has to."""
    for node in ast.parse(source).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        for name in names:
            if name.partition(".")[0] in sys.stdlib_module_names:
                try:
                    __import__(name)
                except ImportError:
                    continue


def _apart(
    code: types.CodeType, function: str, folder: str, arguments: dict[str, Any], wall_s: float, encode: Any
) -> dict[str, Any]:
    readable, writable = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            os.close(readable)
            os.setpgid(0, 0)
            os.chdir(folder)
            _tell(writable, _called(code, function, arguments, encode))
        finally:
            os._exit(0)
    os.close(writable)
    data, fault = _read(readable, started + wall_s)
    os.close(readable)
    status, usage = _ended(child, started + wall_s, at_once=bool(fault))
    spent = {
        "seconds": round(time.monotonic() - started, 4),
        "memory_mb": round(usage.ru_maxrss / _PER_MB, 1),
    }
    if fault == "long":
        return {"fault": "returned more than 2 MB", **spent}
    if fault == "late" or status is None:
        return {"fault": f"took longer than {wall_s:g} s", **spent}
    if os.WIFSIGNALED(status):
        return {"fault": f"crashed ({signal.Signals(os.WTERMSIG(status)).name})", **spent}
    if not data:
        return {"fault": f"ended its own process (exit status {os.waitstatus_to_exitcode(status)})", **spent}
    return {**json.loads(bytes(data)), **spent}


def _called(code: types.CodeType, function: str, arguments: dict[str, Any], encode: Any) -> dict[str, Any]:
    module = types.ModuleType("tool_on_trial")
    sys.modules[module.__name__] = module
    try:
        exec(code, module.__dict__)
        value = getattr(module, function)(**arguments)
    except BaseException as error:
        return _raised(error)
    try:
        return {"value": encode(value)}
    except Exception as error:
        # None of the errors that the tool may raise, whatever kind of error the encoding takes it for.
        return {"fault": f"returned what cannot be told: {error}"}


def _raised(error: BaseException) -> dict[str, Any]:
    """`Type: message`, and the names of all that the type is a kind of."""
    try:
        message = str(error)[:MAX_MESSAGE]
    except Exception as fault:
        message = f"(its message failed with {type(fault).__name__})"
    kinds = [kind.__name__ for kind in type(error).__mro__]
    return {"error": f"{kinds[0]}: {message}", "kinds": kinds}


def _tell(writable: int, outcome: dict[str, Any]) -> None:
    try:
        data = json.dumps(outcome).encode()
    except (ValueError, RecursionError, MemoryError) as error:
        data = json.dumps(_raised(error)).encode()
    rest = memoryview(data[: MAX_BYTES + 1])
    while rest:
        rest = rest[os.write(writable, rest) :]


def _read(readable: int, until: float) -> tuple[bytearray, str]:
    """All that a child tells, and why it is ended: it is late, or it tells too much."""
    data = bytearray()
    while len(data) <= MAX_BYTES:
        left = until - time.monotonic()
        if left <= 0 or not select.select([readable], [], [], left)[0]:
            return data, "late"
        chunk = os.read(readable, 1 << 16)
        if not chunk:
            return data, ""
        data += chunk
    return data, "long"


def _ended(child: int, until: float, *, at_once: bool) -> "tuple[int | None, resource.struct_rusage]":
    """The exit status of a child; None if it had to be killed."""
    while not at_once and time.monotonic() < until + 0.2:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            return status, usage
        time.sleep(0.0005)
    for end in (os.killpg, os.kill):
        try:
            end(child, signal.SIGKILL)
        except OSError:
            continue
    return None, os.wait4(child, 0)[2]
