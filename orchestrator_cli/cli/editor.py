"""The user's editor, on a copy of a text."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from orchestrator_cli.environment import editor
from orchestrator_cli.errors import UsageError

EDITOR_REMEDY = "Name an editor that waits until it is closed, such as EDITOR=vi or EDITOR='code --wait'."


def edit(text: str, name: str = "plan.yaml") -> str | None:
    """Open a text in `$VISUAL` or `$EDITOR`. Returns what was saved, or None if nothing was.

    Only the user can read the copy. Its name tells the editor what it holds. Raises `UsageError` if the
    editor fails.
    """
    command = editor()
    with tempfile.TemporaryDirectory(prefix="orch-") as folder:
        path = Path(folder) / name
        path.write_text(text, encoding="utf-8")
        # Some file systems count whole seconds: an earlier time distinguishes a quick save from none.
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 2))
        before = path.stat().st_mtime_ns
        try:
            # Some editors obey files of the folder that they start in, which may be a stranger's.
            code = subprocess.run([*shlex.split(command), str(path)], cwd=folder, check=False).returncode
            if code:
                raise UsageError(f"The editor {command} ended with exit code {code}.", EDITOR_REMEDY)
            # Some editors replace the file by another one.
            return path.read_text(encoding="utf-8") if path.stat().st_mtime_ns != before else None
        except (OSError, ValueError) as exc:
            raise UsageError(f"The editor {command} cannot be used: {exc}", EDITOR_REMEDY) from exc
