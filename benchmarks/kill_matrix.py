"""Runs killed at every event and resumed: python -m benchmarks.kill_matrix [NAME ...] [--every N]

The runs are the demo on its recorded replies (`demo`), and plans whose model is an endpoint on loopback:
twelve subtasks with branches, a map, a failure, a revision and a condition (`twelve`), a chain that is
skipped after a failure (`stranded`), maps with failures (`maps`), a goal that is missed again and again
(`loops`), and subtasks that are asked about (`approvals`). Each is run once without being disturbed; then,
for each of its events, once more: killed with SIGKILL at that event (see `crash` in the tests for the two
ways), and resumed; a quarter of the resumed ones are killed again first. What is compared:

    the answer, the files of the workspace, the values of the subtasks and what became of each
    that the run, and each tool it used, is remembered once
    the journal's numbers, and facts that may be in it only once
    the entries of the log: none missing, none doubled
    that no subtask was started again after it had finished

Prints a line per fault, and the counts at the end; the exit code is 1 where there was a fault.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from measuring import place, use_test_parts

NAMES = ("demo", "twelve", "stranded", "maps", "loops", "approvals")
WAYS = ("line", "journal")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill_matrix")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; without any, all")
    parser.add_argument("--every", type=int, default=1, help="only every N-th event")
    parser.add_argument("--first", type=int, default=1, help="the event to begin with")
    parser.add_argument("--by", choices=WAYS, help="only this way to die")
    parser.add_argument("--seed", type=int, default=1, help="of the second deaths")
    options = parser.parse_args()
    use_test_parts()
    faulty = 0
    with place(), _mortals() as run, tempfile.TemporaryDirectory(prefix="orch-kill-") as folder:
        for name in options.names or NAMES:
            with _scene(name, Path(folder, name)) as scene:
                for way in [options.by] if options.by else WAYS:
                    chance = random.Random(options.seed)
                    faulty += matrix(run, scene, name, way, (options.first, options.every), chance)
    return int(faulty > 0)


def matrix(run: Any, scene: Any, name: str, way: str, points: tuple[int, int], chance: random.Random) -> int:
    """Kill at each event in turn; how many of the runs were not as they have to be."""
    started, counts, faulty = time.monotonic(), Counter[str](), 0
    whole = scene.undisturbed(run)
    total = len(scene.place.journal)
    first, every = points
    for at in range(first, total + 1, every):
        faults = scene.disturbed(run, way, at, counts, whole, chance)
        faulty += bool(faults)
        for fault in faults:
            print(f"  {name}, killed by {way} at event {at}: {fault}", flush=True)
        if counts["resumed"] % 20 == 0:
            print(f"  {name}, killed by {way}: {at} of {total} events, {faulty} faulty so far", flush=True)
    took = time.monotonic() - started
    print(f"{name}, killed by {way}: {total} events, {faulty} faulty, in {took:.0f} s", flush=True)
    for what, count in sorted(counts.items()):
        print(f"  {what:<40} {count:>6}", flush=True)
    return faulty


@contextmanager
def _mortals() -> Iterator[Any]:
    from crash import Mortals

    url, home = os.environ["PREFECT_API_URL"], Path(os.environ["ORCH_HOME"])
    run = Mortals(url, home)
    try:
        yield run
    finally:
        run.close()


@contextmanager
def _scene(name: str, folder: Path) -> Iterator[Any]:
    import crash_scenes

    with getattr(crash_scenes, name.capitalize())(folder) as scene:
        yield scene


if __name__ == "__main__":
    sys.exit(main())
