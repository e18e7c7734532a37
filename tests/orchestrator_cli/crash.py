"""Runs of `orch` that are killed with SIGKILL, each a real process, and what going on with them brings.

As a program it makes all imports once and then forks a process per order on its standard input.
Two ways to die: just after the n-th line of `--stream-json`, when the event's journal line is on
the disk and every view has seen it; or as soon as the journal has n lines, wherever the views are.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

By = Literal["line", "journal"]
COMMENT = re.compile(r"^<!-- orch entry (\d+) run (\S+) place \d+ after \w+ hash \w+ -->$", re.MULTILINE)
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Ended:
    code: int
    """Negative: the signal that ended it."""
    events: list[dict[str, Any]]
    """What it said with `--stream-json`; a killed process may have left its last line torn."""
    seconds: float


class Mortals:
    """The process that forks. One run at a time."""

    def __init__(self, url: str, home: Path) -> None:
        self._prefect = home
        self._process = subprocess.Popen(
            [sys.executable, __file__, url, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(
        self,
        args: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        by: By = "line",
        at: int | None = None,
    ) -> Ended:
        """Run `orch` below a folder, with `home` in it; `at` is when it dies."""
        base = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "ORCH_PREFECT_HOME": str(self._prefect)}
        own = {"HOME": str(folder), "ORCH_HOME": str(folder / "home"), **env}
        order = {"args": [*args, "--stream-json"], "cwd": str(folder), "env": base | own, "by": by, "at": at}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


def serve(url: str, home: Path) -> None:
    import forkserver

    from orchestrator_cli.resident.preload import preload

    preload(url, home)
    for line in sys.stdin:
        order = json.loads(line)
        folder, started = Path(order["cwd"]), time.monotonic()
        streams = {name: str(folder / f".{name}") for name in ("stdin", "stdout", "stderr")}
        for path in streams.values():
            Path(path).write_bytes(b"")
        child = os.fork()
        if child == 0:
            forkserver._become(order | {"streams": streams})
        code = _until_death(child, folder, Path(streams["stdout"]), order["by"], order["at"])
        events = list(_events(Path(streams["stdout"])))
        row = {"code": code, "events": events, "seconds": time.monotonic() - started}
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


def _until_death(child: int, folder: Path, out: Path, by: By, at: int | None) -> int:
    deadline = time.monotonic() + TIMEOUT_S
    watched: Path | None = out
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if by == "journal":
            watched = next((folder / "home").glob("**/runs/*/journal.jsonl"), None)
        if at is not None and watched is not None and watched.read_bytes().count(b"\n") >= at:
            os.kill(child, signal.SIGKILL)
            at = None
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGINT)
            deadline += 5
        time.sleep(0.0005)  # an event takes longer, and the run needs the processor


def _events(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError):
            yield json.loads(line)


# --- what is looked at afterwards


@dataclass(frozen=True)
class Traces:
    """What a run left, as far as it has to be the same however often it was killed."""

    answer: str
    files: dict[str, str]
    results: dict[str, Any]
    states: dict[str, str]
    remembered: list[str]


@dataclass
class Place:
    """A folder with the home and the workspace of one run."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def reset(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.workspace.mkdir(parents=True)
        (self.folder / "home").mkdir()

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @property
    def journal(self) -> list[dict[str, Any]]:
        (path,) = (self.folder / "home").glob("**/runs/*/journal.jsonl")
        return list(_events(path))

    def record(self) -> Traces:
        facts = [row["data"] for row in self.journal]
        ends = [fact for fact in facts if fact["kind"] == "RunFinished"]
        results = {
            fact["subtask"]: fact["result"]["value"] for fact in facts if fact["kind"] == "SubtaskFinished"
        }
        files = {
            str(path.relative_to(self.workspace)): path.read_text()
            for path in sorted(self.workspace.rglob("*"))
            if path.is_file() and path.name != "fileLog.md"
        }
        over = {"SubtaskFinished": "done", "SubtaskFailed": "failed", "SubtaskSkipped": "skipped"}
        states = {fact["subtask"]: over[fact["kind"]] for fact in facts if fact["kind"] in over}
        # After the failure of an item, what the others come to depends on when they began.
        beside = {
            name
            for name, state in states.items()
            if state != "failed" and name.endswith("]") and states.get(name.partition("[")[0]) == "failed"
        }
        results, states = (
            {name: value for name, value in found.items() if name not in beside}
            for found in (results, states)
        )
        return Traces(ends[-1]["answer"] if ends else "", files, results, states, self._remembered())

    def _remembered(self) -> list[str]:
        """The records of runs, with how they went, and of tools."""
        from memory import RUN, Scope, open_store
        from memory.records import TOOL

        (folder,) = (path for path in (self.folder / "home").glob("**/memory") if path.is_dir())
        with contextlib.closing(open_store(folder)) as store:
            rows = store.all([RUN, TOOL], Scope())
        return sorted(f"{row.kind} {row.data.get('outcome') or row.data.get('name')}" for row in rows)

    def faults(self) -> Iterator[str]:
        """What no journal and no log may show."""
        rows = self.journal
        numbers = [row["seq"] for row in rows]
        if numbers != list(range(1, len(rows) + 1)):
            yield f"journal: numbers {numbers}"
        yield from _twice(rows)
        yield from self._log_faults(rows)
        for path in (*self.workspace.glob(".orch-*"), *(self.folder / "home").glob("**/checkouts/*")):
            yield f"left over: {path.name}"

    def _log_faults(self, rows: list[dict[str, Any]]) -> Iterator[str]:
        from orchestrator_cli.events import Event
        from orchestrator_cli.runs.verify import audit
        from orchestrator_cli.settings import Settings
        from orchestrator_cli.views.entries import entry_for

        text = (self.workspace / "fileLog.md").read_text()
        found = Counter(int(number) for number, _ in COMMENT.findall(text))
        wanted = {row["seq"] for row in rows if entry_for(Event.model_validate(row)) is not None}
        yield from (
            f"log: entry {number} is there {count} times" for number, count in found.items() if count > 1
        )
        yield from (f"log: entry {number} is missing" for number in sorted(wanted - found.keys()))
        found_fault = audit(
            self.workspace / "fileLog.md", Settings(home=self.folder / "home", workspace=self.workspace)
        ).fault
        if found_fault is not None:
            yield f"log: {found_fault.what}"
        yield from (f"log: entry {number} belongs to no event" for number in sorted(found.keys() - wanted))
        if "was cut off" in text:
            yield "log: an entry was cut off"


def _twice(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Subtasks that were started again after they had finished, and facts that may be there only once."""
    finished: set[str] = set()
    once: Counter[str] = Counter()
    for row in rows:
        fact = row["data"]
        match fact["kind"]:
            case "SubtaskStarted" if fact["subtask"] in finished:
                yield f"{fact['subtask']} was started after it had finished"
            case "SubtaskFinished":
                once[f"finished {fact['subtask']}"] += 1
                finished.add(fact["subtask"])
            case "FilesChanged":
                once[f"committed {fact['subtask']} {fact['attempt']}"] += 1
            case "PlanRevised":
                once[f"version {fact['plan']['version']}"] += 1
            case "RunStarted" | "PlanProposed" | "Recalled":
                once[fact["kind"]] += 1
            case "ToolBuilt" | "ToolReused":
                once[f"{fact['kind']} {fact['tool']}"] += 1
    yield from (f"{what}: {count} times" for what, count in once.items() if count > 1)


def attempts(rows: list[dict[str, Any]]) -> int:
    return sum(row["data"]["kind"] == "SubtaskStarted" for row in rows)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
