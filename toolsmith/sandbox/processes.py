"""How the host holds the processes of one sandbox: lets them run, stops them, counts them, ends them.

Between two requests all but the nanny are stopped, so nothing inside runs while the host is not looking.
"""

import signal
import subprocess
import time
from typing import Protocol

from toolsmith.sandbox import proctree

SETTLE_S = 3.0  # a fork bomb on a busy machine is long in dying, and rolling back waits for that
_ENGINE_S = 20.0  # for one word of a container engine
_OURS = 2  # the nanny and the generation


class Unsettled(Exception):
    """Processes of a step outlived it, or cannot be held."""


class Processes(Protocol):
    """The processes of one sandbox."""

    def settle(self) -> None:
        """Waits until one process is left beside the nanny, and stops it. Raises Unsettled."""

    def wake(self) -> None:
        """Lets that one run again."""

    def hold(self) -> None:
        """Stops all processes in the middle of a step."""

    def release(self) -> None:
        """Lets those run again that `hold` stopped."""

    def end_step(self) -> None:
        """Has the snapshot end the step."""

    def count(self) -> int:
        """How many there are, without the nanny and the snapshot; 0 where the engine keeps that limit."""

    def memory(self) -> int:
        """Bytes that all hold together; 0 where the engine keeps that limit."""

    def kill(self) -> None:
        """Ends all of them. From any thread."""


class LocalProcesses:
    """Descendants of the process that the host started."""

    def __init__(self, top: int, *, dies_with_top: bool) -> None:
        """`top`: the nanny. `dies_with_top`: it is the first process of a namespace."""
        self._top, self._dies_with_top = top, dies_with_top
        self._generation = 0
        self._held: list[int] = []

    def settle(self) -> None:
        deadline = time.monotonic() + SETTLE_S
        while True:
            pids = proctree.tree(self._top)[1:]
            if len(pids) == 1:
                proctree.send(pids[0], signal.SIGSTOP)
                if proctree.tree(self._top)[1:] == pids:
                    self._generation = pids[0]
                    return
            if not proctree.HAS_PROC:
                for pid in pids[1:]:  # code inside cannot see its own processes: what it left is ended here
                    proctree.send(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise Unsettled("processes of the step outlived it")
            time.sleep(0.0005)

    def wake(self) -> None:
        proctree.thaw([self._generation])

    def hold(self) -> None:
        self._held = proctree.freeze(self._top)

    def release(self) -> None:
        held, self._held = self._held, []
        proctree.thaw(held)

    def end_step(self) -> None:
        proctree.send(self._generation, signal.SIGUSR1)

    def count(self) -> int:
        return len(proctree.tree(self._top)) - _OURS

    def memory(self) -> int:
        return proctree.memory(proctree.tree(self._top))

    def kill(self) -> None:
        if self._dies_with_top:
            proctree.send(self._top, signal.SIGKILL)
        else:
            proctree.end_descendants(self._top)


class ContainerProcesses:
    """Those of a container: the host cannot reach them but through the engine, `program`."""

    def __init__(self, program: str, name: str, *, list_pids: tuple[str, ...]) -> None:
        """`list_pids`: what has `top` print a heading and one line for each process."""
        self._program, self._name, self._list_pids = program, name, list_pids

    def settle(self) -> None:
        deadline = time.monotonic() + SETTLE_S
        while len(self._tell("top", self._name, *self._list_pids).splitlines()) - 1 != _OURS:
            if time.monotonic() > deadline:
                raise Unsettled("processes of the step outlived it")
        self.hold()

    def wake(self) -> None:
        self._tell("unpause", self._name)

    def hold(self) -> None:
        self._tell("pause", self._name)

    def release(self) -> None:
        self.wake()

    def end_step(self) -> None:
        self._tell("kill", "--signal", "USR1", self._name)  # reaches the nanny, which passes it on

    def count(self) -> int:
        return 0

    def memory(self) -> int:
        return 0

    def kill(self) -> None:
        try:
            self._tell("rm", "--force", self._name)
        except Unsettled:
            return  # it never started, or has gone

    def _tell(self, *words: str) -> str:
        try:
            ran = subprocess.run(
                [self._program, *words], capture_output=True, text=True, timeout=_ENGINE_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unsettled(f"the container engine does not answer: {error}") from error
        if ran.returncode:
            raise Unsettled(f"the container engine would not {words[0]}: {ran.stderr.strip()[:200]}")
        return ran.stdout
