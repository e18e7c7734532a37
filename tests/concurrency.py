"""Many real processes on one memory folder, some of them killed, and what came of it.

Writers acknowledge each batch by printing its keys after `add` has returned; readers print how long each of
their searches took. Two writers are killed with SIGKILL when they have acknowledged so many batches. What was
heard is then compared with what is stored.

What is not covered: power cuts.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from memory import Scope
from memory.edge import EdgeStore

WRITER = """
import sys
from pathlib import Path
from memory import Query, Record, Scope
from memory.edge import EdgeStore

folder, name, batches, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = EdgeStore(folder, read_wait_s=60)
for batch in range(batches):
    keys = [f"{name}-{batch}-{number}" for number in range(size)]
    store.add([Record(kind="run", key=key, text=f"note of {name} about topic{batch % 7}") for key in keys])
    print(*keys, flush=True)
    if batch % 5 == 0:
        found = store.search(Query(f"{name} topic{batch % 7}", kinds="run", scope=Scope(), limit=10_000))
        assert {hit.record.key for hit in found} >= set(keys), "a process does not see its own write"
"""

READER = """
import sys, time
from pathlib import Path
from memory import Query, Scope
from memory.edge import EdgeStore

folder, stop = Path(sys.argv[1]), Path(sys.argv[2])
store = EdgeStore(folder, read_wait_s=60)
while not stop.exists():
    started = time.monotonic()
    store.search(Query("note about topic3", kinds="run", scope=Scope()))
    print(time.monotonic() - started, flush=True)
"""


@dataclass(frozen=True)
class Outcome:
    acknowledged: frozenset[str]
    kept: tuple[str, ...]
    reads_s: tuple[float, ...]
    set_aside: int

    @property
    def lost(self) -> frozenset[str]:
        return self.acknowledged - frozenset(self.kept)

    @property
    def doubled(self) -> int:
        return len(self.kept) - len(set(self.kept))

    @property
    def unacknowledged(self) -> int:
        return len(set(self.kept) - self.acknowledged)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_after(process: subprocess.Popen[str], lines: int) -> list[str]:
    """Let it acknowledge so many batches, kill it, and give back all that it had acknowledged."""
    assert process.stdout is not None
    heard = [process.stdout.readline() for _ in range(lines)]
    process.kill()
    heard += process.stdout.readlines()
    process.communicate()
    return [key for line in heard if line.endswith("\n") for key in line.split()]


def finished(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.split()


def stored(folder: Path) -> list[str]:
    return [record.key for record in EdgeStore(folder, read_wait_s=60).all((), Scope())]


def eight_writers_two_killed(folder: Path, *, batches: int, kill_at: int, readers: int = 1) -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    stop = folder / "stop"
    watching = [start(READER, folder, stop) for _ in range(readers)]
    writers = [start(WRITER, folder, f"w{number}", batches, 1) for number in range(8)]
    acknowledged = [key for writer in writers[:2] for key in kill_after(writer, kill_at)]
    acknowledged += [key for writer in writers[2:] for key in finished(writer)]
    stop.touch()
    reads = [float(taken) for reader in watching for taken in finished(reader)]
    return Outcome(
        frozenset(acknowledged),
        tuple(stored(folder)),
        tuple(reads),
        len(EdgeStore(folder).set_aside()),
    )
