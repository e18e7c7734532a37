"""Many real processes on one memory folder, some of them killed, and what came of it.

Writers acknowledge each batch by printing its keys after `add` has returned; readers print how long each of
their searches took. Two writers are killed with SIGKILL when they have acknowledged so many batches. What was
heard is then compared with what is stored.

With a server, the folder is where writes wait for it, and the server is away from time to time.

What is not covered: power cuts.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from qdrant_face import QdrantFace

from memory import MemoryStore, Scope, open_store
from memory.edge import EdgeStore

WRITER = """
import sys
from pathlib import Path
from memory import MemoryAway, MemoryBusy, Query, Record, Scope, open_store
from memory.edge import EdgeStore

folder, name, batches, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
url = sys.argv[5] if len(sys.argv) > 5 else None
store = open_store(folder, url=url) if url else EdgeStore(folder, read_wait_s=60)
for batch in range(batches):
    keys = [f"{name}-{batch}-{number}" for number in range(size)]
    store.add([Record(kind="run", key=key, text=f"note of {name} about topic{batch % 7}") for key in keys])
    print(*keys, flush=True)
    if batch % 5 == 0:
        query = Query(f"{name} topic{batch % 7}", kinds="run", scope=Scope(), limit=10_000)
        try:
            found = store.search(query)
        except (MemoryAway, MemoryBusy):
            if url:
                continue
            raise
        assert {hit.record.key for hit in found} >= set(keys), "a process does not see its own write"
"""

READER = """
import sys, time
from pathlib import Path
from contextlib import suppress
from memory import MemoryAway, MemoryBusy, Query, Scope, open_store
from memory.edge import EdgeStore

folder, stop, url = Path(sys.argv[1]), Path(sys.argv[2]), (sys.argv[3:] or [None])[0]
store = open_store(folder, url=url) if url else EdgeStore(folder, read_wait_s=60)
while not stop.exists():
    started = time.monotonic()
    with suppress(*([MemoryAway, MemoryBusy] if url else [])):
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


def stored(folder: Path, url: str | None = None) -> list[str]:
    store: MemoryStore = open_store(folder, url=url) if url else EdgeStore(folder, read_wait_s=60)
    with closing(store):
        return [record.key for record in store.all((), Scope())]


def eight_writers_two_killed(
    folder: Path, *, batches: int, kill_at: int, readers: int = 1, face: QdrantFace | None = None
) -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    stop, url = folder / "stop", [face.url] if face else []
    with _away_at_times(face) if face else nullcontext():
        watching = [start(READER, folder, stop, *url) for _ in range(readers)]
        writers = [start(WRITER, folder, f"w{number}", batches, 1, *url) for number in range(8)]
        acknowledged = [key for writer in writers[:2] for key in kill_after(writer, kill_at)]
        acknowledged += [key for writer in writers[2:] for key in finished(writer)]
        stop.touch()
        reads = [float(taken) for reader in watching for taken in finished(reader)]
    return Outcome(
        frozenset(acknowledged),
        tuple(stored(folder, *url)),
        tuple(reads),
        len(list(folder.rglob("*.unreadable"))) if face else len(EdgeStore(folder).set_aside()),
    )


@contextmanager
def _away_at_times(face: QdrantFace) -> Iterator[None]:
    ended = threading.Event()

    def toggle() -> None:
        while not ended.wait(0.3):
            with face.stopped():
                time.sleep(0.2)

    toggling = threading.Thread(target=toggle)
    toggling.start()
    try:
        yield
    finally:
        ended.set()
        toggling.join()
