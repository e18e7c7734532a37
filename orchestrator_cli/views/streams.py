"""Writing to a stream whose reader may have left, and whose encoding may lack letters."""

import contextlib
import os
from typing import TextIO


def write(stream: TextIO, text: str) -> bool:
    """Write and flush. Returns False if the reader has left (`orch ask … | head -1`).

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
        # The interpreter flushes again at exit: that must not fail a second time.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        return False
    return True
