"""What the commands and consoles of an interactive loop have to know of it: that they are in one.

Runs of it take remarks, what was typed too late for one is its next prompt, and hints name its commands.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

LATE = "note  The run had ended when you said that; it is your next prompt, if you like."


@dataclass
class LoopInput:
    """Of one loop."""

    commands: frozenset[str]
    """Those of the command line that it takes."""
    late: str = ""
    """What was typed during the last run and came too late for it."""

    def keep(self, remarks: Sequence[str], unfinished: str, say: Callable[[str], None]) -> None:
        """Keep what is not used; `say` shows a line to the user."""
        if remarks:
            say(LATE)
        self.late = "\n".join(filter(None, (*(_as_prompt(one) for one in remarks), unfinished)))


def _as_prompt(remark: str) -> str:
    return f" {remark}" if remark.startswith("/") else remark


_COMMAND = re.compile(r"\borch ([a-z]+)\b")
_loop: ContextVar[LoopInput | None] = ContextVar("the interactive loop", default=None)


@contextlib.contextmanager
def in_loop(commands: Iterable[str]) -> Iterator[LoopInput]:
    """Within the block, commands are those of a loop that takes these of the command line."""
    kept = LoopInput(frozenset(commands))
    before = _loop.set(kept)
    try:
        yield kept
    finally:
        _loop.reset(before)


def loop_input() -> LoopInput | None:
    """What the loop keeps; None outside of a loop."""
    return _loop.get()


def as_typed_here(hint: str) -> str:
    """The hint, with its commands as they are typed here: `/resume` in a loop, not `orch resume`."""
    loop = _loop.get()
    if loop is None:
        return hint
    return _COMMAND.sub(lambda found: f"/{found[1]}" if found[1] in loop.commands else found[0], hint)
