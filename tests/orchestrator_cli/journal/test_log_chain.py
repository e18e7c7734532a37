"""The hash chain of a log: every change is found and located."""

from bisect import bisect_right
from datetime import UTC, datetime
from functools import cache
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orchestrator_cli import events
from orchestrator_cli.events import Event
from orchestrator_cli.journal.chain_check import ChainFault, check_chain
from orchestrator_cli.journal.hash_chain import entries_in, entry_head, pieces_of, read_log, sealed
from orchestrator_cli.views.entries import entry_for
from orchestrator_cli.views.filelog import HEADER, FileLog, begun

TIME = datetime(2026, 7, 1, 14, 3, 22, tzinfo=UTC)
RUNS = ("20260701-140322-aaaaaaaa", "20260701-140322-bbbbbbbb")


def entry_of(number: int) -> tuple[str, str]:
    """The head and the text of an entry; two runs alternate."""
    run, seq = RUNS[number % 2], number
    fact = events.CodeRan(
        subtask="scan", attempt=1, step=number, code=f"print({number})", output=f"{number}\n"
    )
    text = entry_for(Event(run=run, seq=seq, time=TIME, data=fact))
    return entry_head(seq, run), f"\n{text}\n\n"


@cache
def blocks_of(count: int) -> tuple[bytes, ...]:
    """The blocks of a log with so many entries, its head first."""
    head, seal = begun(HEADER)
    found = [head]
    for number in range(1, count + 1):
        what, text = entry_of(number)
        seal = sealed(what, number, seal.hash, text.encode())
        found.append(text.encode() + seal.line.encode())
    return tuple(found)


def fault_in(data: bytes) -> ChainFault | None:
    return check_chain(read_log(data)).fault


def found(data: bytes) -> tuple[str, int]:
    fault = fault_in(data)
    assert fault is not None
    return fault.kind, fault.place


def test_untouched_log_has_no_fault() -> None:
    data = b"".join(blocks_of(500))
    findings = check_chain(read_log(data))
    assert (findings.fault, findings.notes, findings.entries) == (None, (), 500)


def test_view_writes_a_valid_chain(tmp_path: Path) -> None:
    log = FileLog(tmp_path / "fileLog.md")
    for number in range(1, 6):
        fact = events.CodeRan(subtask="a", attempt=1, step=1, code=f"print({number})", output="")
        log(Event(run=RUNS[number % 2], seq=number, time=TIME, data=fact))
    findings = check_chain(read_log(log.path.read_bytes()))
    assert findings.fault is None
    assert [block.seal.seq for block in findings.log.blocks] == [None, 1, 2, 3, 4, 5]


MANY = "9" * 5_000


@pytest.mark.parametrize(
    "comment",
    [
        *(f"{what} place {MANY} after {'0' * 64} hash {'0' * 64}" for what in ("added", "log ab", "copy ab")),
        *(f"{what} place 1 after {'0' * 64} hash {'0' * 64}" for what in (f"log {'a' * 300}", f"cut {MANY}")),
        *(f"entry {MANY} run r{end}" for end in ("", f" place 1 after {'0' * 64} hash {'0' * 64}")),
    ],
)
def test_a_comment_with_a_number_or_an_id_that_is_too_long_is_text(tmp_path: Path, comment: str) -> None:
    data = b"".join(blocks_of(2)) + f"\nnote\n<!-- orch {comment} -->\n".encode()
    path = tmp_path / "fileLog.md"
    path.write_bytes(data)
    assert len(read_log(data).blocks) == 3
    assert len([piece for piece in pieces_of(data) if piece.hash]) == 3
    assert len(entries_in(data)) == 2
    log = FileLog(path, tmp_path / "home")
    fact = events.CodeRan(subtask="a", attempt=1, step=1, code="print(1)", output="")
    log(Event(run=RUNS[0], seq=9, time=TIME, data=fact))
    assert read_log(path.read_bytes()).blocks[-1].seal.seq == 9


# --- every kind of tampering at every entry of a long log

LONG = 500


def test_altered_entry_is_named() -> None:
    blocks = blocks_of(LONG)
    for place, block in enumerate(blocks):
        changed = block.replace(b"print(", b"exec(", 1) if place else block.replace(b"Times", b"Crimes")
        assert found(b"".join((*blocks[:place], changed, *blocks[place + 1 :]))) == ("altered", place)


def test_removed_entry_is_named() -> None:
    blocks = blocks_of(LONG)
    for place in range(LONG):
        assert found(b"".join((*blocks[:place], *blocks[place + 1 :]))) == ("removed", place)


def test_swapped_entries_are_named() -> None:
    blocks = blocks_of(LONG)
    for place in range(1, LONG):
        swapped = (*blocks[:place], blocks[place + 1], blocks[place], *blocks[place + 2 :])
        assert found(b"".join(swapped)) == ("reordered", place)


def test_inserted_entry_is_named() -> None:
    blocks = blocks_of(LONG)
    before = [block.seal.hash for block in read_log(b"".join(blocks)).blocks]
    text = b"\n**7** \xc2\xb7 run `aaaaaaaa` \xc2\xb7 note: all is well\n\n"
    for place in range(1, LONG):
        forged = text + sealed(entry_head(7, RUNS[0]), place, before[place - 1], text).line.encode()
        assert found(b"".join((*blocks[:place], forged, *blocks[place:]))) == ("inserted", place)


def test_line_inserted_before_an_entry_is_named() -> None:
    blocks = blocks_of(LONG)
    for place in range(1, LONG + 1):
        assert found(b"".join((*blocks[:place], b"a line\n", *blocks[place:]))) == ("inserted", place)


def test_copied_entry_is_reported_as_inserted() -> None:
    blocks = blocks_of(LONG)
    for place in range(1, LONG + 1, 7):
        assert found(b"".join((*blocks[:place], blocks[place], *blocks[place:]))) == ("inserted", place + 1)


# --- every line of a log


def _lines() -> tuple[list[bytes], list[int]]:
    """The lines of a log, and of each the place of its block."""
    blocks = blocks_of(60)
    lines = [line for block in blocks for line in block.splitlines(keepends=True)]
    places = [place for place, block in enumerate(blocks) for _ in block.splitlines()]
    return lines, places


def test_removed_line_is_found_in_its_entry() -> None:
    lines, places = _lines()
    for number, place in enumerate(places[:-1]):
        fault = fault_in(b"".join(lines[:number] + lines[number + 1 :]))
        assert fault is not None
        assert (fault.kind, fault.place) == ("altered", place), lines[number]


def test_altered_line_is_found_in_its_entry() -> None:
    lines, places = _lines()
    for number, place in enumerate(places):
        changed = lines[number].rstrip(b"\n") + b" \n"
        fault = fault_in(b"".join([*lines[:number], changed, *lines[number + 1 :]]))
        assert fault is not None
        assert (fault.kind, fault.place) == ("altered", place), lines[number]


def test_inserted_line_is_found_in_its_entry() -> None:
    lines, places = _lines()
    for number, place in enumerate(places):
        fault = fault_in(b"".join([*lines[:number], b"one more\n", *lines[number:]]))
        first = number > 0 and places[number - 1] != place
        assert fault is not None
        assert (fault.kind, fault.place) == ("inserted" if first or number == 0 else "altered", place)


# --- anything at all


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_changed_bytes_are_located(data: st.DataObject) -> None:
    blocks = blocks_of(12)
    whole = b"".join(blocks)
    start = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(start, min(len(whole), start + 400)))
    put = data.draw(st.one_of(st.binary(max_size=40), st.sampled_from([b"", b"\n", b"-->", b"<!-- orch"])))
    changed = whole[:start] + put + whole[end:]
    assume(changed.replace(b"\r\n", b"\n") != whole)
    # An end that is missing cannot be seen from the chain alone.
    assume(not whole.startswith(changed))
    fault = fault_in(changed)
    if fault is None:
        # What follows the last seal left and has none itself looks like a killed writer's: no entry that is
        # whole came after the change.
        assert end > len(whole) - len(blocks[-1])
        return
    pairs = enumerate(zip(whole, changed, strict=False))
    same = next((n for n, (a, b) in pairs if a != b), len(whole))
    ends = list(accumulate(map(len, blocks)))
    assert fault.place in (bisect_right(ends, same), bisect_right(ends, same) + 1)


def test_crlf_line_ends_are_no_change() -> None:
    assert fault_in(b"".join(blocks_of(12)).replace(b"\n", b"\r\n")) is None


@pytest.mark.parametrize("place", [1, 3, 6])
def test_rewritten_chain_is_valid_by_itself(place: int) -> None:
    """What makes the head and the journals necessary."""
    blocks = list(read_log(b"".join(blocks_of(6))).blocks)
    before, data = blocks[place - 1].seal.hash, b"".join(blocks_of(6)[:place])
    for block in blocks[place:]:
        text = block.text.replace(b"print", b"exec")
        seal = sealed(block.seal.head, block.seal.place, before, text)
        data, before = data + text + seal.line.encode(), seal.hash
    assert fault_in(data) is None
