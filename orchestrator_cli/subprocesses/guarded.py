"""A process that is talked to while it runs, ended with all that it started however this one ends.

It runs beneath `guard`, as the commands of `command` do; those are given all at once and read to
their end.
"""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from anyio.abc import Process


@asynccontextmanager
async def guarded(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
) -> "AsyncIterator[Process]":
    """The running process, its standard input and output open; `env` None hands on this one's.

    Leaving the block ends it: asked first, forced half a second later. Raises `OSError` where not even
    the guard can be started; a program that is not there ends with exit code 127.
    """
    import anyio

    far, near = os.pipe()
    try:
        process = await anyio.open_process(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py")), str(far), *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=cwd,
            env=env,
            start_new_session=True,
            pass_fds=(far,),
        )
    except BaseException:
        os.close(near)
        raise
    finally:
        os.close(far)
    try:
        yield process
    finally:
        os.close(near)
        with anyio.CancelScope(shield=True):
            # What waits for us to read could not end otherwise.
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                        await stream.aclose()
            await process.wait()
            await process.aclose()
