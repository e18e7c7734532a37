"""What is forgotten is gone from the disk, and a search names truly what it looked through."""

import os
from pathlib import Path

import pytest

from memory import Record, Scope
from memory.edge import EdgeStore
from memory.outbox import exclusive
from memory.residue import Residue, find_residue

ME = Scope()
SECRET = 'the "Würfel" of\nzanzibar'


def note(key: str, text: str, scope: Scope = ME) -> Record:
    return Record(kind="fact", key=key, text=text, data={"said": text}, scope=scope)


def test_forgotten_text_is_gone_from_the_folder(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path, write_wait_s=0.0)
    store.add([note(str(number), f"something else {number}") for number in range(30)])
    with exclusive(tmp_path / ".lock", wait_s=1):
        store.add([note("waiting", SECRET)])
    assert [path.parent.name for path in find_residue(tmp_path, [SECRET]).found] == ["outbox"]
    store.add([note("stored", f"{SECRET} {SECRET} " * 20)])
    assert find_residue(tmp_path, [SECRET])
    assert {record.key for record in store.scan() if SECRET in record.text} == {"waiting", "stored"}
    assert store.delete([note("waiting", "").id, note("stored", "").id], ME) == 2
    left = find_residue(tmp_path, [SECRET])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert (left.files, left.bytes) == (len(files), sum(path.stat().st_size for path in files))
    assert not left
    assert left.unread == ()
    assert not [record for record in store.scan() if SECRET in record.text]


def test_files_put_aside_are_searched(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path, warn=lambda _: None)
    store.add([note("a", SECRET)])
    (tmp_path / "shard" / "edge_config.json").write_text("garbage")
    (tmp_path / "outbox" / "1.json").write_text(f"not JSON, {SECRET}")
    store.add([note("b", "else")])
    left = find_residue(tmp_path, [SECRET])
    (aside,) = store.set_aside()
    assert any(path.is_relative_to(aside) for path in left.found)
    assert tmp_path / "outbox" / "1.unreadable" in left.found


@pytest.mark.parametrize("form", ['the "Würfel" of\nzanzibar', 'the \\"W\\u00fcrfel\\" of\\nzanzibar'])
def test_a_text_is_found_as_it_is_and_as_json_writes_it(tmp_path: Path, form: str) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "journal.jsonl").write_text(f"before {form} after")
    (tmp_path / "empty").touch()
    (tmp_path / "packed.gz").write_bytes(b"\x1f\x8b")
    assert find_residue(tmp_path, [SECRET, "other"]) == Residue(
        files=3,
        bytes=len(f"before {form} after".encode()) + 2,
        found=(tmp_path / "deep" / "journal.jsonl",),
        compressed=(tmp_path / "packed.gz",),
    )


def test_a_text_across_the_pages_of_a_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"\0" * (2**20 - 3) + SECRET.encode() + b"\0" * 99)
    assert find_residue(tmp_path, [SECRET])
    assert not find_residue(tmp_path, [SECRET + "!"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "shut").write_text(SECRET)
    (tmp_path / "shut").chmod(0)
    assert find_residue(tmp_path, [SECRET]).unread == (tmp_path / "shut",)


def test_an_empty_text_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="say what to look for"):
        find_residue(tmp_path, [" "])
