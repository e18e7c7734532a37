"""How long recall takes as memory grows: python benchmarks/bench_recall.py [--large] [--repeat N]

Prints medians in milliseconds and, to the right, each as a multiple of the smallest memory's, measured in
the same run: absolute times depend on the machine, ratios hardly do. `--large` adds 100,000 records, which
takes a minute or two and some 200 MB of disk.

    open      lock, open the shard, count, close: what every operation pays
    recall    candidates for runs and tools, and the judging of them
    add       one record, durable, through the shard
    outbox    one record, durable, while another process holds the shard
    delete    one record, with the rebuild of the shard that erases its text (once, not a median)

What is not covered: a Qdrant server, and many processes at once.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from memory import RUN, MemoryStore, Record, Scope, recall, record_id, run_record, tool_record
from memory.edge import EdgeStore
from memory.lock import exclusive

SIZES = (1_000, 10_000)
LARGE = 100_000
BATCH = 2_000
TOOL_EVERY = 20
ME = Scope()

VERBS = ("report on", "summarise", "translate", "plot", "compare", "download", "check", "convert")
THINGS = ("prices", "weather data", "letters", "sales", "photos", "papers", "logs", "tests", "calendars")


def records(size: int) -> Iterator[Record]:
    """Requests about thousands of subjects, with a tool for every twentieth."""
    rng = random.Random(7)
    for number in range(size):
        verb, thing, subject = rng.choice(VERBS), rng.choice(THINGS), f"subject{rng.randrange(size // 4)}"
        if number % TOOL_EVERY:
            yield run_record(
                run=str(number),
                prompt=f"Please {verb} the {thing} of {subject} for the year {1980 + number % 40}",
                outcome="completed",
                answer="An answer of some length. " * 20,
                plan=[{"id": f"s{i}", "title": f"{verb} {thing}", "tools": []} for i in range(5)],
                scope=ME,
            )
        else:
            purpose = f"{verb} the {thing} of {subject}"
            yield tool_record(name=f"tool_{number}", version="1", purpose=purpose, signature="()", scope=ME)


def fill(store: MemoryStore, size: int) -> float:
    """Seconds that it took."""
    made = list(records(size))
    started = time.perf_counter()
    for start in range(0, size, BATCH):
        store.add(made[start : start + BATCH])
    return time.perf_counter() - started


def median_ms(action: Callable[[int], object], repeat: int) -> float:
    return statistics.median(milliseconds(lambda n=n: action(n)) for n in range(repeat))  # type: ignore[misc]


def milliseconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - started)


def measure(folder: Path, size: int, repeat: int) -> dict[str, float]:
    store = EdgeStore(folder)
    filled_s = fill(store, size)

    def prompt(number: int) -> str:
        return f"Please plot the sales of subject{number} for the year 1999"

    def record(number: int, key: str) -> Record:
        return run_record(
            run=f"{key}{number}", prompt=prompt(number), outcome="completed", answer="", plan=[], scope=ME
        )

    taken = {
        "open": median_ms(lambda _: store.count(RUN, ME), repeat),
        "recall": median_ms(lambda n: recall(store, prompt(n), scope=ME), repeat),
        "add": median_ms(lambda n: store.add([record(n, "add")]), repeat),
    }
    busy = EdgeStore(folder, write_wait_s=0.0)
    with exclusive(folder / ".lock", wait_s=10):
        taken["outbox"] = median_ms(lambda n: busy.add([record(n, "out")]), repeat)
    store.count(RUN, ME)
    taken["delete"] = milliseconds(lambda: store.delete([record_id(ME, RUN, "add0")], ME))
    taken["fill, per record"] = 1000 * filled_s / size
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--large", action="store_true", help=f"also measure {LARGE:,} records")
    parser.add_argument("--repeat", type=int, default=21, help="measurements per median (default 21)")
    options = parser.parse_args()

    first: dict[str, float] = {}
    for size in (*SIZES, LARGE) if options.large else SIZES:
        with tempfile.TemporaryDirectory() as folder:
            taken = measure(Path(folder), size, options.repeat)
        first = first or taken
        print(f"{size:,} records")
        for name, value in taken.items():
            print(f"  {name:<18}{value:10.2f} ms {value / first[name]:8.2f} x")


if __name__ == "__main__":
    main()
