"""How long recall takes as memory grows: python benchmarks/bench_recall.py [--large] [--vectors] [--repeat N]

Prints medians in milliseconds and, to the right, each as a multiple of the smallest memory's, measured in
the same run: absolute times depend on the machine, ratios hardly do. `--large` adds 100,000 records, which
takes a minute or two and some 200 MB of disk. `--vectors` makes a vector of each record first, with the small
model or the one in BENCH_EMBED.

    open         lock, open the shard, count, close: what every turn pays
    in a turn    a count while the shard is open
    recall       candidates for runs and tools, and the judging of them, in one turn
    turn each    the same with a turn for each of its reads
    retrieve     turns of conversations, with what stands beside them, their session and the speaker
    add          one record, durable, through the shard
    outbox       one record, durable, while another process holds the shard
    delete       one record, with the rebuild of the shard that erases its text (once, not a median)
    near         recall and retrieve with vectors; that of the question is not made in that time
    vector       one vector, made and stored, of all that are made
    held         how long the interpreter is held at most during `open`: no other thread gets on meanwhile

What is not covered: a Qdrant server, and many processes at once.
"""

import argparse
import random
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from embedding import MISSING, dense_model

from memory import RUN, TURN, MemoryStore, Record, Scope, recall, record_id, run_record, tool_record
from memory.dense import Dense, fill_vectors
from memory.edge import EdgeStore
from memory.outbox import exclusive
from memory.retrieval import retrieve
from memory.sessions import turn_record

SIZES = (1_000, 10_000)
LARGE = 100_000
BATCH = 2_000
TOOL_EVERY = 20
TURNS_OF_A_SESSION = 30
ME = Scope()

VERBS = ("report on", "summarise", "translate", "plot", "compare", "download", "check", "convert")
THINGS = ("prices", "weather data", "letters", "sales", "photos", "papers", "logs", "tests", "calendars")


def records(size: int) -> Iterator[Record]:
    """Requests about thousands of subjects, with a tool for every twentieth; half of all is said in talks."""
    rng = random.Random(7)
    for number in range(size):
        verb, thing, subject = rng.choice(VERBS), rng.choice(THINGS), f"subject{rng.randrange(size // 4)}"
        if number % 2:
            yield turn_record(
                session=f"talk{number // 2 // TURNS_OF_A_SESSION}",
                seq=number // 2 % TURNS_OF_A_SESSION,
                speaker=rng.choice(("Ada", "Ben")),
                text=f"I would like to {verb} the {thing} of {subject}, not before {number % 12 + 1} o'clock",
                time=datetime(2026, 1 + number % 12, 1, tzinfo=UTC),
                scope=ME,
            )
        elif number % TOOL_EVERY:
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


class TurnEach:
    """A store whose operations never share a turn."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        yield self


def longest_hold_s(action: Callable[[], object]) -> float:
    """How long a thread that wants to go on each millisecond had to wait at most during the action."""
    waits, done = [0.0], threading.Event()

    def tick() -> None:
        while not done.is_set():
            before = time.perf_counter()
            time.sleep(0.001)
            waits.append(time.perf_counter() - before)

    thread = threading.Thread(target=tick)
    thread.start()
    action()
    done.set()
    thread.join()
    return max(waits)


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


def measure(folder: Path, size: int, repeat: int, dense: Dense | None) -> dict[str, float]:
    store = EdgeStore(folder)
    filled_s = fill(store, size)
    if dense is not None:
        vector_ms = milliseconds(lambda: fill_vectors(store, dense, ME)) / size

    def prompt(number: int) -> str:
        return f"Please plot the sales of subject{number} for the year 1999"

    def record(number: int, key: str) -> Record:
        return run_record(
            run=f"{key}{number}", prompt=prompt(number), outcome="completed", answer="", plan=[], scope=ME
        )

    taken = {
        "open": median_ms(lambda _: store.count(RUN, ME), repeat),
        "recall": median_ms(lambda n: recall(store, prompt(n), scope=ME), repeat),
        "turn each": median_ms(lambda n: recall(TurnEach(store), prompt(n), scope=ME), repeat),  # type: ignore[arg-type]
        "retrieve": median_ms(lambda n: retrieve(store, prompt(n), kinds=TURN, scope=ME), repeat),
        "add": median_ms(lambda n: store.add([record(n, "add")]), repeat),
    }
    taken["held"] = 1000 * statistics.median(
        longest_hold_s(lambda: store.count(RUN, ME)) for _ in range(repeat)
    )
    with store.opened() as memory:
        taken["in a turn"] = median_ms(lambda _: memory.count(RUN, ME), repeat)
    busy = EdgeStore(folder, write_wait_s=0.0)
    with exclusive(folder / ".lock", wait_s=10):
        taken["outbox"] = median_ms(lambda n: busy.add([record(n, "out")]), repeat)
    store.count(RUN, ME)
    taken["delete"] = milliseconds(lambda: store.delete([record_id(ME, RUN, "add0")], ME))
    taken["fill, per record"] = 1000 * filled_s / size
    if dense is not None:
        near = dense.vectors([prompt(n) for n in range(repeat)])
        taken["recall, near"] = median_ms(lambda n: recall(store, prompt(n), scope=ME, near=near[n]), repeat)
        taken["retrieve, near"] = median_ms(
            lambda n: retrieve(store, prompt(n), kinds=TURN, scope=ME, near=near[n]), repeat
        )
        taken["vector"] = vector_ms
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--large", action="store_true", help=f"also measure {LARGE:,} records")
    parser.add_argument("--repeat", type=int, default=21, help="measurements per median (default 21)")
    parser.add_argument("--vectors", action="store_true", help="make a vector of each record first")
    options = parser.parse_args()
    if (dense := dense_model() if options.vectors else None) is None and options.vectors:
        raise SystemExit(MISSING)

    first: dict[str, float] = {}
    for size in (*SIZES, LARGE) if options.large else SIZES:
        with tempfile.TemporaryDirectory() as folder:
            taken = measure(Path(folder), size, options.repeat, dense)
            disk = sum(path.stat().st_blocks * 512 for path in Path(folder).rglob("*"))
        first = first or taken
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{size:,} records, {disk / 2**20:,.0f} MB on the disk, {most:,.0f} MB of memory at most")
        for name, value in taken.items():
            print(f"  {name:<18}{value:10.2f} ms {value / first[name]:8.2f} x")


if __name__ == "__main__":
    main()
