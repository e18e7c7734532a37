"""The real `orch` command with a home and a workspace of its own, run from start or from a warm process."""

import contextlib
import json
import os
import subprocess
import termios
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from forkserver import Warm
from residents import COMMAND, Residents

from orchestrator_cli.approvals.inbox import Remark, send


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def envelope(self) -> dict[str, Any]:
        """What `--json` printed."""
        assert self.out, (self.code, self.err)
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def error(self) -> str:
        """The error message with its remedy, in one line."""
        lines = self.err.splitlines()
        start = next((n for n, line in enumerate(lines) if line.startswith("error")), len(lines))
        return " ".join(line.strip() for line in lines[start:])


@dataclass(frozen=True)
class Orch:
    """A user of `orch`: calling it runs the command and returns when it has ended."""

    home: Path
    workspace: Path
    warm: Warm | Residents
    starts: Warm | Residents
    """What `environment` is prepared by: whether commands that a test starts for itself have a resident."""
    env: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *args: str, stdin: str = "", timeout: float = 60, **env: str) -> Done:
        started = time.monotonic()
        folder = self.home.parent / f"streams-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        streams = {name: folder / name for name in ("stdin", "stdout", "stderr")}
        for path in streams.values():
            path.touch()
        streams["stdin"].write_text(stdin, encoding="utf-8")
        code = self.warm.run(
            args, env=self._prepared(self.warm, env), cwd=self._cwd, streams=streams, timeout=timeout
        )
        out, err = (streams[name].read_text(encoding="utf-8") for name in ("stdout", "stderr"))
        return Done(code, out, err, time.monotonic() - started)

    def cold(self, *args: str, stdin: str = "", timeout: float = 60, **env: str) -> Done:
        """The same in a fresh interpreter."""
        started = time.monotonic()
        done = subprocess.run(
            [*COMMAND, *args],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self._cwd,
            env=self._prepared(self.warm, env),
            timeout=timeout,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - started)

    def at_terminal(
        self,
        *args: str,
        typed: str,
        timeout: float = 60,
        size: tuple[int, int] = (24, 80),
        answers: Callable[[bytes], bytes] = lambda _: b"",
        **env: str,
    ) -> Done:
        """The same at a terminal on which `typed` was typed ahead; `out` and `err` are all that it shows.

        `answers` is what the terminal itself sends back for what it is sent.
        """
        started = time.monotonic()
        ours, theirs = os.openpty()
        shown: list[bytes] = []

        def read() -> None:
            with contextlib.suppress(OSError):  # both ends are closed
                while part := os.read(ours, 65_536):
                    shown.append(part)
                    os.write(ours, answers(part))

        reader = threading.Thread(target=read)
        reader.start()
        termios.tcsetwinsize(theirs, size)
        try:
            os.write(ours, typed.encode())
            place = Path(os.ttyname(theirs))
            code = self.warm.run(
                args,
                env=self._prepared(self.warm, {"TERM": "dumb"} | env),
                cwd=self._cwd,
                streams=dict.fromkeys(("stdin", "stdout", "stderr"), place),
                timeout=timeout,
            )
        finally:
            os.close(theirs)
            reader.join()
            os.close(ours)
        text = b"".join(shown).decode(errors="replace").replace("\r\n", "\n")
        return Done(code, text, text, time.monotonic() - started)

    def trust(self) -> None:
        """Allow what the file of the workspace asks for, as a user does who has looked at it."""
        done = self("trust", "--yes")
        assert done.code == 0, done.err

    def remark(self, text: str) -> None:
        """Say something to the newest run, and wait until it has heard it."""
        send(self.journal().parent, Remark(text=text))
        deadline = time.monotonic() + 60
        while text not in [row["text"] for row in self.events("Remarked")]:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    @property
    def command(self) -> tuple[str, ...]:
        return COMMAND

    def environment(self, **env: str) -> dict[str, str]:
        """Nothing of the tester's own settings; an empty value takes a name out."""
        return self._prepared(self.starts, env)

    def _prepared(self, way: Warm | Residents, env: Mapping[str, str]) -> dict[str, str]:
        base = {
            "PATH": os.environ["PATH"],
            "ORCH_MEMORY__DENSE": "off",
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "ORCH_HOME": str(self.home),
        }
        given = base | dict(self.env) | dict(env)
        return way.prepare({name: value for name, value in given.items() if value})

    @property
    def _cwd(self) -> Path:
        return self.workspace if self.workspace.is_dir() else self.home

    # --- what a run left behind

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The facts of the newest run's journal, or those of one kind."""
        rows = [json.loads(line)["data"] for line in self.journal().read_text().splitlines()]
        return [row for row in rows if kind is None or row["kind"] == kind]

    def times(self, kind: str) -> list[datetime]:
        """When the facts of one kind were written."""
        rows = [json.loads(line) for line in self.journal().read_text().splitlines()]
        return [datetime.fromisoformat(row["time"]) for row in rows if row["data"]["kind"] == kind]

    def journal(self) -> Path:
        journals = (self.home / "runs").glob("*/journal.jsonl")
        return max(journals, key=lambda path: path.stat().st_mtime_ns)

    @property
    def log(self) -> str:
        """The text of fileLog.md."""
        return (self.workspace / "fileLog.md").read_text(encoding="utf-8")

    def file(self, name: str) -> str:
        return (self.workspace / name).read_text(encoding="utf-8")

    def files(self) -> list[str]:
        """Everything in the workspace but the log, sorted."""
        found = (path for path in self.workspace.rglob("*") if path.is_file() or path.is_symlink())
        return sorted(str(p.relative_to(self.workspace)) for p in found if p.name != "fileLog.md")

    def remains(self) -> list[str]:
        """What no run may leave behind: scratch files and checkouts."""
        scratch = [str(p) for p in self.workspace.rglob(".orch-*")]
        return scratch + [str(p) for p in (self.home / "checkouts").glob("*")]
