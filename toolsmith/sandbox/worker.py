"""The program inside the sandbox: a first process that reaps, and generations that run code.

Standard library only; the host sends its code, and that of the modules it imports (see bootstrap.py).

Processes. The *nanny* is the first process: it reaps orphans and ends everything when the host hangs up. (A
parent-death signal would follow the host's thread, which may end long before the host does.) Its child is
the current *generation*, which holds the Python state. To run a step the generation forks: the child runs
it, and the parent waits as the *snapshot* of the state before. When the step returns, the child ends all
other processes, the snapshot too, and is the next generation. If the step crashes, or the host sends SIGUSR1,
the snapshot ends all others and reports: the state is then as it was before the step.

Not covered: an interpreter with several threads cannot be forked safely, and on systems other than Linux
orphans would be lost, so such steps have no snapshot, and their crash ends the whole sandbox.
"""

import builtins
import contextlib
import fcntl
import io
import os
import resource
import select
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

from toolsmith.sandbox import confinement, processes
from toolsmith.sandbox.interpreter import Interpreter, Outcome, paused_alarm
from toolsmith.sandbox.removal import remove
from toolsmith.sandbox.wire import Json, WireError, decode, read_frame, write_frame

NOT_CONFINED = 70  # exit status: the sandbox is not what the host expects
_PARKED = {signal.SIGCHLD, signal.SIGUSR1}  # blocked, and waited for, by a snapshot


def main(rx: int, tx: int, settings: dict[str, Any]) -> NoReturn:
    """`settings`: the backend's `Launch.settings`, with `asking`, `packages`, `imports`. Ends by exiting."""
    pid_namespace: bool = settings["pid_namespace"]
    if pid_namespace and os.getpid() != 1:
        os._exit(NOT_CONFINED)
    if not pid_namespace and sys.platform == "linux":
        confinement.become_subreaper()
    if os.fork() == 0:
        _generation(rx, tx, settings)
    os.close(tx)
    if pid_namespace:
        confinement.hide_memory()  # after the fork: the generation would inherit it
    _reap_until_done(rx)
    if not pid_namespace:
        processes.end_descendants(os.getpid(), patience_s=60.0)
    if settings["scratch"]:
        remove(settings["scratch"])
    os._exit(0)


def _reap_until_done(rx: int) -> None:
    """Reaps until all descendants have ended, or the host has hung up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    woken, waker = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    poll.register(rx, 0)  # the hang-up only: the generations read from it
    poll.register(woken, select.POLLIN)
    while _reap(os.WNOHANG):
        ready = [fd for fd, _ in poll.poll()]
        if rx in ready:
            return
        os.read(woken, 512)


def _reap(options: int) -> bool:
    """Reaps children; returns whether some are still alive."""
    try:
        while os.waitpid(-1, options)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _generation(rx: int, tx: int, settings: dict[str, Any]) -> NoReturn:
    nanny = os.getppid()
    if settings["confine"] is not None:
        confinement.confine(**settings["confine"])
    if settings["asking"] is not None:
        confinement.ask_host(**settings["asking"])
    for name, value in settings["rlimits"].items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]  # the user's own limit may be lower
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))
    if settings["alone"] and not _alone(nanny):
        os._exit(NOT_CONFINED)
    if settings["imports"]:
        sys.path.insert(0, os.getcwd())  # noqa: PTH109  (a path as text)
    if settings["packages"] is not None:
        # After the standard library, which no package may replace, and before other packages.
        others = [at for at, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages"))]
        sys.path.insert(min(others, default=len(sys.path)), settings["packages"])
    for name in [name for name in sys.modules if name.partition(".")[0] == "toolsmith"]:
        del sys.modules[name]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, _PARKED)
    generation = Generation(rx, tx, nanny, settings["scratch"] or "/tmp", alone=settings["alone"])
    write_frame(tx, {"t": "ready"})
    while request := read_frame(rx):
        generation.answer(request)
    os._exit(0)


def _alone(nanny: int) -> bool:
    """Whether SIGKILL to "all processes" reaches only those of this sandbox."""
    if nanny == 1:
        return True
    try:
        os.kill(nanny, 0)
    except PermissionError:
        return True
    return False


class Generation:
    """Answers requests, each in a fork of itself if that is safe."""

    def __init__(self, rx: int, tx: int, nanny: int, scratch: str, *, alone: bool) -> None:
        """`scratch`: the temporary folder. `alone`: no signal from here reaches a process that does not
        belong to this sandbox.
        """
        self._rx, self._tx, self._nanny, self._alone = rx, tx, nanny, alone
        self._threads = threading.Lock()
        self._processes = _unnamed_file(scratch)
        self._interpreter = Interpreter(self._call_host)

    def answer(self, request: dict[str, Any]) -> None:
        try:
            # One thread, and a system that makes orphans children of their subreaper.
            forkable = sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208
            child = os.fork() if forkable else 0
        except OSError as exc:
            self._report_rollback(request, {"fault": f"cannot start the step: {exc.strerror}"})
            return
        if child:
            self._report_rollback(request, self._wait_as_snapshot(child))
            return
        step = os.getpid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PARKED)
        try:
            outcome = self._interpreter.perform(request)
        except MemoryError:
            outcome = {"error": {"type": "MemoryError", "message": "", "frames": []}}
        if os.getpid() != step:  # a fork that the step's code made also got here
            os._exit(0)
        signal.pthread_sigmask(signal.SIG_BLOCK, _PARKED)
        self._end_the_others()
        self._report(request, outcome)

    def _wait_as_snapshot(self, child: int) -> Outcome:
        """Waits for the end of the step; returns only if the step did not."""
        while signal.sigwait(_PARKED) != signal.SIGUSR1:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                self._end_the_others()
                return {"fault": _describe_exit(status)}
        self._end_the_others()
        return {"stopped": True}

    def _end_the_others(self) -> None:
        """Ends every other process of the sandbox but the nanny, all at once, so that none can fork away.

        If one signal to all would reach the user's other processes, this ends the descendants it can see;
        without /proc it can see none, and the host ends them.
        """
        if not self._alone:
            if processes.HAS_PROC:
                processes.end_descendants(self._nanny, spare=os.getpid())
                _reap(0)
            return
        if not _alone(self._nanny):
            os._exit(NOT_CONFINED)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(-1, signal.SIGKILL)
        _reap(0)

    def _report_rollback(self, request: dict[str, Any], outcome: Outcome) -> None:
        """Reports, and drops all up to the host's mark: the step may have left half of a message unread."""
        self._report(request, outcome)
        mark, seen = bytes.fromhex(request["id"]), b""
        while not seen.endswith(mark):
            chunk = os.read(self._rx, 1 << 16)
            if not chunk:
                os._exit(0)
            seen = seen[-len(mark) :] + chunk
        write_frame(self._tx, {"t": "synced"})

    def _report(self, request: dict[str, Any], outcome: Outcome) -> None:
        reply: dict[str, Json] = {"t": "done", "id": request["id"]}
        try:
            write_frame(self._tx, reply | outcome)
        except WireError as exc:
            if outcome.get("final") or request["t"] != "run":
                error = {"type": "ValueError", "message": f"{exc}; write it to a file", "frames": []}
                write_frame(self._tx, reply | {"error": error})
            else:
                write_frame(self._tx, reply | {"value": f"({exc})", "final": False})

    @contextlib.contextmanager
    def _alone_with_the_host(self) -> Iterator[None]:
        """Keeps other threads, and other processes of the step, from calling the host meanwhile."""
        with self._threads:
            fcntl.lockf(self._processes, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._processes, fcntl.LOCK_UN)

    def _call_host(self, name: str, args: Json, kwargs: Json) -> Any:
        call = {"t": "call", "name": name, "args": args, "kwargs": kwargs}
        with self._alone_with_the_host(), paused_alarm():
            write_frame(self._tx, call)
            reply = read_frame(self._rx)
        if reply is None:
            os._exit(0)
        if "error" in reply:
            raise _raised(reply.get("type", ""), reply["error"])
        return decode(reply["value"])


def _unnamed_file(folder: str) -> int:
    """A descriptor of a file that each process can lock; the lock ends with the process."""
    path = f"{folder}/.calls"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.unlink(path)  # noqa: PTH108
    return fd


def _raised(kind: str, message: str) -> Exception:
    """The error of a host tool; one of a built tool is of the built-in type that the tool raised."""
    name, _, own = kind.partition(": ")
    found = getattr(builtins, name, None)
    if isinstance(found, type) and issubclass(found, Exception):
        with contextlib.suppress(TypeError):  # a type that takes more than a message
            return found(f"{own}: {message}" if own else message)
    return RuntimeError(f"{kind}: {message}" if kind else message)


def _describe_exit(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"the step crashed ({signal.Signals(number).name})"
        except ValueError:
            return f"the step crashed (signal {number})"
    return f"the step ended its own process (exit status {os.waitstatus_to_exitcode(status)})"
