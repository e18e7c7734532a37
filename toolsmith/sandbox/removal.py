"""Deletes folders that code has filled. Runs on the host, and inside as the last thing that a worker does."""

import contextlib
import os


def remove(folder: str | os.PathLike[str]) -> None:
    """Deletes a folder and its content as far as possible: at any depth, whatever the modes, not by links."""
    import shutil  # not at the top: they would cost each start of a worker
    import subprocess

    with contextlib.suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder) and not os.path.islink(folder):  # noqa: PTH114
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            with contextlib.suppress(OSError):
                subprocess.run([*command, "--", os.fspath(folder)], check=False, capture_output=True)
