"""A text in the editor of the user's choice, `$VISUAL` or `$EDITOR`."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from orchestrator_cli.errors import UsageError
from orchestrator_cli.settings import editor

REMEDY = "Name an editor that waits until it is closed, such as EDITOR=vi or EDITOR='code --wait'."


def edit(text: str) -> str | None:
    """What was saved, or None where nothing was. Raises `UsageError` where the editor fails."""
    command = editor()
    with tempfile.TemporaryDirectory(prefix="orch-") as folder:
        path = Path(folder) / "plan.yaml"
        path.write_text(text, encoding="utf-8")
        # Some file systems count whole seconds: an earlier time tells a quick save from none.
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 2))
        before = path.stat().st_mtime_ns
        try:
            code = subprocess.run([*shlex.split(command), str(path)], check=False).returncode
            if code:
                raise UsageError(f"The editor {command} ended with exit code {code}.", REMEDY)
            # Some editors put another file in the place of this one.
            return path.read_text(encoding="utf-8") if path.stat().st_mtime_ns != before else None
        except (OSError, ValueError) as exc:
            raise UsageError(f"The editor {command} cannot be used: {exc}", REMEDY) from exc
