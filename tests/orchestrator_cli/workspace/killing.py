"""Kills commits at chosen points and checks the workspace after the next opening.

Run as a program, it forks a process per point, which kills itself with SIGKILL just before or
after the n-th call into the interpreter's C code that the commit makes: every system call is one.
Prints a line of JSON per point.
"""

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from orchestrator_cli.workspace import Checkout, Workspace

WATCHED = ("/orchestrator_cli/workspace/", "/orchestrator_cli/durable/", "shutil.py")


def lay_out(root: Path) -> None:
    """A workspace with one of each kind."""
    root.mkdir()
    (root / "kept").write_text("kept")
    (root / "changed").write_text("before")
    (root / "script").write_text("#!/bin/sh\n")
    (root / "dropped").write_text("dropped")
    (root / "folder").mkdir()
    (root / "folder/one").write_text("one")
    (root / "folder/two").write_text("two")
    (root / "becomes-folder").write_text("a file")
    (root / "link").symlink_to("kept")
    (root / ".git").mkdir()
    (root / ".git/config").write_text("mine")


def work(root: Path) -> None:
    (root / "changed").write_text("after")
    (root / "script").chmod(0o755)
    (root / "dropped").unlink()
    shutil.rmtree(root / "folder")
    (root / "folder").write_text("a file now")
    (root / "becomes-folder").unlink()
    (root / "becomes-folder/deep").mkdir(parents=True)
    (root / "becomes-folder/deep/new").write_text("new")
    (root / "link").unlink()
    (root / "link").symlink_to("changed")
    (root / "empty").mkdir(mode=0o750)


def state_of(root: Path) -> dict[str, str]:
    """Every path with its type, mode and content."""
    found = {}
    for path in sorted(root.rglob("*")):
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
        content = str(path.readlink()) if kind == "link" else path.read_text() if kind == "file" else ""
        mode = "" if kind == "link" else oct(path.stat().st_mode & 0o777)
        found[str(path.relative_to(root))] = f"{kind} {mode} {content}"
    return found


def die_at(point: int | None) -> list[int]:
    """From now on, count the watched calls, and die at the one with that number."""
    count = [0]

    def profile(frame: object, event: str, _: object) -> None:
        if event in ("c_call", "c_return") and any(
            part in frame.f_code.co_filename  # type: ignore[attr-defined]
            for part in WATCHED
        ):
            if count[0] == point:
                os.kill(os.getpid(), signal.SIGKILL)
            count[0] += 1

    sys.setprofile(profile)
    return count


class Stage:
    """A workspace that is laid out again for each try."""

    def __init__(self, folder: Path) -> None:
        self.root, self.home = folder / "workspace", folder / "home"

    def reset(self) -> None:
        for path in (self.root, self.home):
            shutil.rmtree(path, ignore_errors=True)
        lay_out(self.root)

    def open(self) -> Workspace:
        return Workspace(self.root, self.home, 100, run="the-run")

    def forked(self, do: Callable[[], None]) -> int:
        """What a process of its own, doing it, is ended by: a signal, or 0."""
        child = os.fork()
        if child == 0:
            code = 1
            try:
                do()
                code = 0
            finally:
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise RuntimeError("the child failed")
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0

    def commit(self, point: int | None, tell: Callable[[int], None] = lambda _: None) -> None:
        def do() -> None:
            checkout: Checkout = self.open().checkout("the-subtask")
            work(checkout.root)
            count = die_at(point)
            checkout.commit()
            sys.setprofile(None)
            tell(count[0])
            checkout.discard()

        self.killed = self.forked(do)

    def recover(self, point: int | None) -> int:
        def do() -> None:
            die_at(point)
            self.open()
            sys.setprofile(None)

        return self.forked(do)

    def points(self) -> int:
        """How many points a whole commit has."""
        self.reset()
        report = self.home.parent / "points"
        self.commit(None, lambda count: report.write_text(str(count)) and None)
        return int(report.read_text())


def main(folder: Path, step: int, seed: int) -> None:
    stage, chance = Stage(folder), random.Random(seed)
    total = stage.points()
    after = state_of(stage.root)
    stage.reset()
    before = state_of(stage.root)
    for point in range(chance.randrange(step), total, step):
        stage.reset()
        stage.commit(point)
        twice = stage.recover(chance.randrange(400)) if chance.random() < 0.5 else 0
        opened = stage.open()
        found = state_of(stage.root)
        outcome = "before" if found == before else "after" if found == after else "between"
        records = list((stage.home / "runs/the-run/undo").glob("*.json"))
        remains = [str(path) for path in (stage.home / "checkouts").glob("*")]
        remains += [str(path) for path in (stage.home / "commits").glob("*.json")]
        row = {
            "point": point,
            "killed": stage.killed == signal.SIGKILL,
            "killed_again": twice == signal.SIGKILL,
            "outcome": outcome,
            "recorded": len(records),
            "remains": remains,
            "recovered": opened.recovered,
            "found": found if outcome == "between" else {},
        }
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
