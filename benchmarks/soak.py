"""An hour of mixed runs on one data folder: python -m benchmarks.soak [--minutes 60] [--seed 1] [--kinds …]

One interactive loop answers prompt after prompt, and beside it two workers start runs: plans with
failures, maps, missed goals and approvals, as in `kill_matrix`, and prompts that are answered at once. One
in three is killed with SIGKILL at a random moment and resumed. Checked of each run: its exit code, that its
journal is whole, and that nothing finished was done again. Printed every minute, of the interactive loop:
memory, descriptors and threads; of the data folder: its size without journals and Prefect's database.
The journals of runs with a fault are kept in `soak-faults/` of the current folder.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import clean_environment, place, use_test_parts

KINDS = ("Twelve", "Stranded", "Maps", "Loops", "Approvals")


class Worker:
    """Starts runs one after the other, in a workspace of its own for each."""

    def __init__(
        self, folder: Path, home: Path, kinds: Sequence[str], chance: random.Random, counts: Counter[str]
    ) -> None:
        self.folder = folder
        self.kinds = kinds
        self.home = home
        self.chance = chance
        self.counts = counts
        self.faults: list[str] = []

    def work(self, until: float) -> None:
        import crash_scenes

        number = 0
        while time.monotonic() < until:
            number += 1
            kind = self.chance.choice(self.kinds)
            with getattr(crash_scenes, kind)(self.folder / f"{number}") as scene:
                workspace = scene.place.folder / "workspace"
                workspace.mkdir(parents=True)
                env = {
                    **clean_environment(),
                    **scene.place.env,
                    "ORCH_HOME": str(self.home),
                    "ORCH_REUSE": "never",
                }
                args = [part for part in scene.args if part not in ("-C", "workspace")]
                self._one(kind, args, [*scene.again], workspace, env, scene.code)

    def _one(
        self, kind: str, args: list[str], again: list[str], workspace: Path, env: dict[str, str], code: int
    ) -> None:
        killed = self.chance.random() < 1 / 3
        run, ended = self._run([*args, "--stream-json"], workspace, env, killed)
        if killed and ended == -9:
            self.counts["killed"] += 1
            if not run:
                return  # before it was a run
            _, ended = self._run(["resume", run, *again, "--stream-json"], workspace, env, False)
        self.counts[f"runs of {kind}"] += 1
        journal = self.home / "runs" / run
        faults = [f"exit {ended} instead of {code}"] * (ended != code) + [*journal_faults(journal)]
        if faults:
            shutil.copytree(journal, Path.cwd() / "soak-faults" / run)
        self.faults += [f"{kind}, {run}: {fault}" for fault in faults]

    def _run(self, args: list[str], cwd: Path, env: dict[str, str], killed: bool) -> tuple[str, int]:
        command = [sys.executable, "-m", "orchestrator_cli", *args]
        with tempfile.TemporaryFile("w+") as out:
            process = subprocess.Popen(command, cwd=cwd, env=env, stdout=out, stderr=subprocess.DEVNULL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self.chance.uniform(4, 25) if killed else 600)
            if process.poll() is None:
                process.kill()
            process.wait()
            out.seek(0)
            first = out.readline()
        run = json.loads(first)["run"] if first.endswith("\n") else ""
        return run, process.returncode


def journal_faults(folder: Path) -> Iterator[str]:
    from crash import _twice

    rows = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    if [row["seq"] for row in rows] != list(range(1, len(rows) + 1)):
        yield "the numbers of its events are not in order"
    # With other runs on the same memory, a resumed run may recall something else.
    yield from (fault for fault in _twice(rows) if not fault.startswith("Recalled"))


class Loop:
    """The interactive loop, in a terminal."""

    def __init__(self, folder: Path, home: Path) -> None:
        import pexpect
        from endpoint import Endpoint, texts_of
        from scripted_model import MODELS, answered

        folder.mkdir(parents=True)

        def reply(request: dict[str, Any], _n: int) -> str:
            asked = re.findall(r"What is (\d+)\?", texts_of(request))
            return answered(f"It is {asked[-1]}.")

        self.endpoint = Endpoint(reply).__enter__()
        env = {"OPENAI_BASE_URL": self.endpoint.url, "OPENAI_API_KEY": "none", **MODELS, "TERM": "xterm"}
        env |= {"ORCH_HOME": str(home), "ORCH_REMEMBER": "rules", "ORCH_REUSE": "never"}
        self.child: Any = pexpect.spawn(
            sys.executable,
            ["-m", "orchestrator_cli"],
            env={**clean_environment(), **env},  # type: ignore[arg-type]
            cwd=str(folder),
            encoding="utf-8",
            codec_errors="replace",
            timeout=300,
        )
        self.answered = 0

    def work(self, until: float) -> None:
        while time.monotonic() < until:
            self.child.send(f"What is {self.answered}?\r")
            # What is typed before the loop asks again is a remark, or lost.
            self.child.expect(rf" call[\s\S]*It is {self.answered}\.[\s\S]*orch>")
            self.answered += 1
            time.sleep(1)

    def sample(self) -> dict[str, int]:
        proc = Path("/proc", str(self.child.pid))
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        resident = int(status["VmRSS"].split()[0]) // 1024
        return {
            "MB": resident,
            "files": len(list((proc / "fd").iterdir())),
            "threads": int(status["Threads"]),
        }

    def close(self) -> None:
        self.child.sendeof()
        self.child.close(force=True)
        self.endpoint.__exit__()


def size_mb(home: Path) -> float:
    """The data folder without journals, undo, and Prefect's database."""
    left_out = (home / "runs", home / "prefect")
    total = 0
    for folder, _, names in os.walk(home):
        if not any(Path(folder).is_relative_to(other) for other in left_out):
            for name in names:
                with contextlib.suppress(OSError):
                    total += 512 * Path(folder, name).stat().st_blocks
    return total / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    use_test_parts()
    counts: Counter[str] = Counter()
    with place() as found, tempfile.TemporaryDirectory(prefix="orch-soak-") as name:
        until = time.monotonic() + 60 * options.minutes
        workers = [
            Worker(Path(name, f"{n}"), found.home, options.kinds, random.Random(options.seed + n), counts)
            for n in range(2)
        ]
        loop = Loop(Path(name, "loop"), found.home)
        threads = [threading.Thread(target=one.work, args=(until,)) for one in (*workers, loop)]
        for thread in threads:
            thread.start()
        minute = 0
        while any(thread.is_alive() for thread in threads):
            sample = " ".join(f"{value} {what}" for what, value in loop.sample().items())
            done = sum(count for what, count in counts.items() if what.startswith("runs"))
            print(
                f"  minute {minute:3}: the loop {sample}, {loop.answered} prompts; {done} runs, "
                f"{counts['killed']} killed; {size_mb(found.home):.1f} MB",
                flush=True,
            )
            minute += 1
            for thread in threads:
                thread.join(60 / len(threads))
        loop.close()
    faults = [fault for worker in workers for fault in worker.faults]
    for fault in faults:
        print(f"  {fault}")
    print(f"  {dict(counts)}, {loop.answered} prompts answered in the loop, {len(faults)} faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
