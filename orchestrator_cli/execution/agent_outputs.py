"""Keeps what an agent reads within the context of its model.

An output that is too long goes to a file of the checkout that is never committed; the model reads its
beginning, its end, and how to read the rest. Before the context is full, old steps are shortened: what the
model said, and so what it decided, stays word for word, as does the task.

Sizes are estimates: a token is taken for three bytes of UTF-8, which is more tokens than most texts have.

Not covered: a task that does not fit by itself. The provider refuses it, and that ends the attempt.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator_cli.tools.files import OUTPUTS, file_tools

OUTPUT_CHARS = 20_000
"""The longest output that is shown whole; less if the context is small."""
REPLY_TOKENS = 16_384
"""What is left free for a reply, or a quarter of a small context."""
BYTES_A_TOKEN = 3
REST = 0.6
"""What old steps are shortened to, as a share of the room: so that it is not done at every step."""


@dataclass(frozen=True)
class Room:
    """What fits into the context of a model."""

    context: int | None
    """In tokens; None if that is unknown."""

    @property
    def prompt_bytes(self) -> int | None:
        if self.context is None:
            return None
        return (self.context - min(REPLY_TOKENS, self.context // 4)) * BYTES_A_TOKEN

    @property
    def output_chars(self) -> int:
        """A single output takes at most an eighth of the context."""
        return OUTPUT_CHARS if self.context is None else min(OUTPUT_CHARS, self.context * BYTES_A_TOKEN // 8)


class LongOutputs:
    """Shortens the outputs of one attempt. `reader`: the tool that reads the rest; empty for code."""

    def __init__(self, root: Path, room: Room, reader: str) -> None:
        self._root = root
        self._most = room.output_chars
        self._reader = reader
        self.stored = 0
        """How many outputs are in files."""

    def shown(self, text: str) -> str:
        """The text, or its beginning and end with the name of the file that has all of it."""
        if len(text) <= self._most:
            return text
        head, tail = self._most * 3 // 4, self._most // 4
        path = f"{OUTPUTS}/{self.stored + 1}.txt"
        where = "the rest could not be kept"
        with suppress(OSError, ValueError):  # a full disk is found elsewhere; a planted link is not followed
            file_tools(self._root)["write_file"](path, text)
            self.stored += 1
            how = f"go on with {self._reader}, offset={head}, limit={head}" if self._reader else "open it"
            where = f"all of it is in {path}: {how}"
        left_out = f"{len(text) - head - tail:,} characters left out here"
        return f"{text[:head]}\n[… {left_out}; {where} …]\n{text[-tail:]}"
