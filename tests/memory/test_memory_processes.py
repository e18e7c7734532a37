"""Real processes on one folder, some of them killed: nothing acknowledged is lost, nothing doubled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from memory import Scope, record_id
from memory.edge import EdgeStore

ME = Scope()

WRITER = """
import sys
from pathlib import Path
from memory import Record, Scope
from memory.edge import EdgeStore

folder, name, batches, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = EdgeStore(folder)
for batch in range(batches):
    keys = [f"{name}-{batch}-{number}" for number in range(size)]
    store.add([Record(kind="run", key=key, text=f"note of {name} about topic{batch % 7}") for key in keys])
    print(*keys, flush=True)
    if batch % 5 == 0:
        found = store.search(f"{name} topic{batch % 7}", kinds="run", scope=Scope(), limit=10_000)
        assert {hit.record.key for hit in found} >= set(keys), "a process does not see its own write"
"""

FORGETTER = """
import sys
from pathlib import Path
from memory import Scope, record_id
from memory.edge import EdgeStore

store = EdgeStore(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    assert store.delete([record_id(Scope(), "run", f"old-0-{number}")], Scope()) == 1
    print(f"old-0-{number}", flush=True)
"""


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
    return [record.key for record in EdgeStore(folder, read_wait_s=60).all((), ME)]


def eight_writers_two_killed(folder: Path, batches: int, kill_at: int) -> None:
    writers = [start(WRITER, folder, f"w{number}", batches, 1) for number in range(8)]
    acknowledged = [key for writer in writers[:2] for key in kill_after(writer, kill_at)]
    acknowledged += [key for writer in writers[2:] for key in finished(writer)]
    kept = stored(folder)
    assert len(kept) == len(set(kept)) == EdgeStore(folder).count((), ME)
    assert set(acknowledged) <= set(kept)
    # A killed writer may have written one batch that it could not acknowledge any more.
    assert len(kept) - len(acknowledged) <= 2
    assert EdgeStore(folder).set_aside() == []


def killed_writer(folder: Path, name: str, size: int, kill_at: int) -> list[str]:
    return kill_after(start(WRITER, folder, name, 10_000, size), kill_at)


@pytest.mark.parametrize("kill_at", [1, 4])
def test_eight_processes_write_two_are_killed_and_nothing_is_lost(tmp_path: Path, kill_at: int) -> None:
    eight_writers_two_killed(tmp_path, batches=8, kill_at=kill_at)


def test_the_folder_opens_after_kills_in_the_middle_of_writes(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for turn, size in enumerate((1, 20, 200)):
        acknowledged += killed_writer(tmp_path, f"t{turn}", size, kill_at=3 + turn)
        kept = stored(tmp_path)
        assert set(acknowledged) <= set(kept)
        assert len(kept) == len(set(kept))
    assert EdgeStore(tmp_path).set_aside() == []


def test_a_kill_in_the_middle_of_deletes_loses_only_what_was_to_go(tmp_path: Path) -> None:
    assert len(finished(start(WRITER, tmp_path, "old", 1, 40))) == 40
    for kill_at in (2, 5):
        before = len(stored(tmp_path))
        forgotten = start(FORGETTER.replace("range(", f"range({40 - before}, "), tmp_path, 40)
        gone = kill_after(forgotten, kill_at)
        kept = stored(tmp_path)
        assert not set(gone) & set(kept)
        # The delete that was under way may have come to its end, or not.
        assert before - len(gone) - len(kept) in (0, 1)
    assert EdgeStore(tmp_path).get([record_id(ME, "run", "old-0-39")], ME) != []


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_nothing_is_lost_in_twenty_rounds_of_kills(tmp_path: Path) -> None:
    for turn in range(20):
        eight_writers_two_killed(tmp_path / str(turn), batches=25, kill_at=1 + turn)
        killed_writer(tmp_path / "one", f"t{turn}", size=(1, 20, 200)[turn % 3], kill_at=1 + turn % 7)
    kept = stored(tmp_path / "one")
    assert len(kept) == len(set(kept))
    assert EdgeStore(tmp_path / "one").set_aside() == []
