"""Writing to a stream whose reader may have gone, and whose encoding may not have every letter."""

import contextlib
import os
from typing import TextIO


def write(stream: TextIO, text: str) -> bool:
    """Write and flush; False where nobody reads any more (`orch ask … | head -1`).

    A letter that the encoding lacks becomes `?`.
    """
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = stream.encoding
            stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        _abandon(stream)
        return False
    return True


def _abandon(stream: TextIO) -> None:
    """Let the interpreter's own flush at exit go nowhere, instead of failing a second time."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
