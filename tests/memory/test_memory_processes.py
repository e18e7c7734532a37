"""Real processes on one folder, some of them killed: nothing acknowledged is lost, nothing doubled."""

from pathlib import Path

import pytest
from concurrency import WRITER, eight_writers_two_killed, finished, kill_after, start, stored
from qdrant_face import QdrantFace

from memory import Scope, record_id
from memory.edge import EdgeStore

ME = Scope()

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


def killed_writer(folder: Path, name: str, size: int, kill_at: int) -> list[str]:
    return kill_after(start(WRITER, folder, name, 10_000, size), kill_at)


@pytest.mark.parametrize("kill_at", [1, 3])
def test_eight_processes_write_two_are_killed_and_nothing_is_lost(tmp_path: Path, kill_at: int) -> None:
    came = eight_writers_two_killed(tmp_path, batches=5, kill_at=kill_at)
    assert came.lost == frozenset()
    assert came.doubled == came.set_aside == 0
    # A killed writer may have written one batch that it could not acknowledge any more.
    assert came.unacknowledged <= 2
    # No reader may have to wait for the end of the crowd.
    assert len(came.reads_s) > 1


@pytest.mark.thorough
def test_eight_processes_write_to_a_server_that_comes_and_goes(tmp_path: Path) -> None:
    with QdrantFace() as face:
        came = eight_writers_two_killed(tmp_path, batches=12, kill_at=2, face=face)
    assert came.lost == frozenset()
    assert came.doubled == came.set_aside == 0
    assert came.unacknowledged <= 2
    assert list(tmp_path.glob("waiting/*/*.json")) == []


@pytest.mark.thorough
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("where", ["folder", "server"])
def test_twenty_rounds_of_eight_writers_lose_and_double_nothing(tmp_path: Path, where: str) -> None:
    for turn in range(20):
        with QdrantFace() as face:
            place = face if where == "server" else None
            came = eight_writers_two_killed(tmp_path / str(turn), batches=25, kill_at=1 + turn, face=place)
        assert came.lost == frozenset()
        assert came.doubled == came.set_aside == 0


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
