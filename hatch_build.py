"""Writes the commit that a wheel is built from into it, for `orch --version`."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface):  # type: ignore[type-arg, misc]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # An editable installation reads it from the clone. A source archive in a folder of another
        # repository would give the commit of that.
        if version == "editable" or not (Path(self.root) / ".git").exists():
            return
        describe = ["git", "-C", self.root, "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        try:
            said = subprocess.run(describe, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return
        self._folder = tempfile.TemporaryDirectory()  # until the build is done
        file = Path(self._folder.name) / "commit.txt"
        file.write_bytes(said.stdout.strip())
        build_data["force_include"][str(file)] = "orchestrator_cli/commit.txt"
