"""What a checkout and a commit cost, against `cp -r`: python benchmarks/bench_workspace.py [--large] [--mb N]

    cp -r             the workspace copied by the system's own program, for comparison
    checkout, copy    a private copy, its state noted for later comparison
    checkout, view    the same by an overlay mount, where the kernel allows it
    changed files     finding out what a subtask wrote, in each of the two
    commit, small     one small file brought into the workspace, on the disk for certain
    commit, all       every file replaced: staged, what it replaces kept for undo, all on the disk
    undo              that taken back

`--large` measures 2 GB. Files have 1 MB each. `cp -r` leaves its copy in memory for the system to write
later, a commit does not return before the disk has it; `cp -r and sync` waits too.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measuring import seconds, show

from orchestrator_cli.workspace import Checkout, Workspace
from orchestrator_cli.workspace.history import CommitHistory
from orchestrator_cli.workspace.undo import Undo

LARGE_MB = 2048
REPEAT = 3


def fill(folder: Path, megabytes: int) -> None:
    block = os.urandom(1 << 20)
    for number in range(megabytes):
        path = folder / f"part-{number % 16}" / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(number.to_bytes(8, "big") + block[8:])


def best(action: Callable[[], float], repeat: int = REPEAT) -> float:
    """The quickest of several: with disks, what comes on top is other work."""
    return min(action() for _ in range(repeat))


def copied(source: Path, target: Path, *, sync: bool) -> float:
    started = time.perf_counter()
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    if sync:
        os.sync()
    taken = time.perf_counter() - started
    shutil.rmtree(target)
    return taken


def opened(workspace: Workspace) -> float:
    started = time.perf_counter()
    checkout = workspace.checkout()
    taken = time.perf_counter() - started
    checkout.discard()
    return taken


def looked(workspace: Workspace) -> float:
    with workspace.checkout() as checkout:
        write_one(checkout)
        return best(lambda: seconds(checkout.written_paths))


def committed(workspace: Workspace, work: Callable[[Checkout], None]) -> float:
    with workspace.checkout("work") as checkout:
        work(checkout)
        return seconds(checkout.commit)


def write_one(checkout: Checkout) -> None:
    (checkout.root / "small").write_text(str(time.time_ns()))


def write_all(checkout: Checkout) -> None:
    for path in checkout.root.glob("part-*/*"):
        content = path.read_bytes()
        path.write_bytes(content[::-1])


def measure(folder: Path, megabytes: int) -> None:
    root, home = folder / "work", folder / "home"
    root.mkdir()
    fill(root, megabytes)
    os.sync()
    by_copy = Workspace(root, home, megabytes + 1, run="bench")
    by_view = Workspace(root, home, 1, run="bench")
    rows = {"cp -r": best(lambda: copied(root, folder / "copy", sync=False))}
    rows["cp -r and sync"] = best(lambda: copied(root, folder / "copy", sync=True))
    rows["checkout, copy"] = best(lambda: opened(by_copy))
    rows["changed files, copy"] = looked(by_copy)
    fast = by_copy
    try:
        rows["checkout, view"] = best(lambda: opened(by_view))
        rows["changed files, view"] = looked(by_view)
        fast = by_view
    except Exception as exc:
        print(f"  the view is left out: {exc}")
    rows["commit, small"] = best(lambda: committed(fast, write_one))
    rows["commit, all"] = committed(by_copy, write_all)
    undo = Undo("bench", CommitHistory(home / "runs" / "bench" / "undo"))
    rows["undo"] = seconds(lambda: undo.apply(by_copy))
    print(f"  {megabytes} MB in {megabytes} files")
    show(rows, against="cp -r")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks/bench_workspace.py")
    parser.add_argument("--large", action="store_true", help=f"{LARGE_MB} MB")
    parser.add_argument("--mb", type=int, default=128, help="size of the workspace")
    parser.add_argument("--folder", type=Path, help="on the file system that is to be measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="orch-bench-", dir=options.folder) as name:
        measure(Path(name), LARGE_MB if options.large else options.mb)


if __name__ == "__main__":
    sys.exit(main())
