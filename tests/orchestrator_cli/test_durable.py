"""The ground floor, with real processes that are killed, and that write and wait at the same time."""

import json
import os
import resource
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_cli.durable.files import (
    append,
    append_line,
    is_torn,
    make_folders,
    read_records,
    write_atomic,
)
from orchestrator_cli.durable.locks import LockTimeout, acquire, try_lock
from orchestrator_cli.durable.text import Similarity, truncate, wilson_interval

OLD, NEW = "old " * 5_000, "new " * 9_000

KILLED_AT = """
import os, signal, sys
from pathlib import Path
from orchestrator_cli.durable.files import write_atomic

path, at, content = Path(sys.argv[1]), int(sys.argv[2]), sys.stdin.read()
steps = 0

def step(frame, event, argument):
    global steps
    watched = frame.f_code.co_filename.endswith(("/durable/files.py", "/pathlib.py"))
    if watched and event in ("c_call", "c_return"):
        if steps == at:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1

sys.setprofile(step)
write_atomic(path, content)
"""
"""Ends itself before or after the call number `at` that `write_atomic` makes into the system."""

APPENDS = """
import sys
from pathlib import Path
from orchestrator_cli.durable.files import append_line
from orchestrator_cli.durable.locks import acquire

log = Path(sys.argv[1])
for number in range(int(sys.argv[3])):
    with acquire(log.with_suffix(".lock"), wait_s=30):
        append_line(log, f"{sys.argv[2]} {number}".encode(), sync=False)
"""

HOLDS = """
import sys, time
from pathlib import Path
from orchestrator_cli.durable.locks import acquire

with acquire(Path(sys.argv[1]), wait_s=1, shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    time.sleep(60)
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_writer_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    found, ended, at = [], False, 0
    while not ended:
        path = tmp_path / str(at) / "file"
        path.parent.mkdir()
        path.write_text(OLD)
        writer = start(KILLED_AT, path, at)
        writer.communicate(NEW)
        ended = writer.returncode == 0
        found.append(path.read_text())
        at += 1
    changed = found.index(NEW)
    assert 0 < changed < len(found) - 1
    assert found == [OLD] * changed + [NEW] * (len(found) - changed)


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(OLD)
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\udc80")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_atomic(tmp_path / "folder", NEW)
    assert path.read_text() == OLD
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]  # noqa: PTH208


def test_a_fixed_temporary_file_that_a_killed_writer_left_is_used_again(tmp_path: Path) -> None:
    path, scratch = tmp_path / "file", tmp_path / "scratch"
    scratch.write_text(OLD)
    write_atomic(path, "short", scratch=scratch)
    assert path.read_text() == "short"
    assert not scratch.exists()


def test_a_file_and_missing_folders_have_the_permissions_asked_for(tmp_path: Path) -> None:
    make_folders(tmp_path / "a" / "b", 0o700)
    write_atomic(tmp_path / "a" / "b" / "file", b"", sync=False, mode=0o600)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b" / "file").stat().st_mode) == 0o600


def test_two_processes_that_append_lose_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    writers = [start(APPENDS, log, name, 200) for name in ("one", "two")]
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0]
    lines = list(read_records(log, bytes.decode))
    assert sorted(lines) == sorted(f"{name} {number}" for name in ("one", "two") for number in range(200))
    for name in ("one", "two"):
        assert [line for line in lines if line.startswith(name)] == [f"{name} {n}" for n in range(200)]


def test_an_unfinished_last_line_is_dropped_and_swallows_nothing_that_follows(tmp_path: Path) -> None:
    log = tmp_path / "log"
    append_line(log, b"[1]")
    with log.open("ab") as file:
        file.write(b"[2, ")
    assert list(read_records(log, parse_list)) == [[1]]
    size = append_line(log, b"[3]")
    assert size == log.stat().st_size
    assert list(read_records(log, parse_list)) == [[1], [3]]
    assert list(read_records(log, parse_list, containing=b"3")) == [[3]]


def parse_list(line: bytes) -> list[int]:
    return [int(item) for item in json.loads(line)]


def test_a_line_is_appended_whole_or_not_at_all(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from orchestrator_cli.durable.files import append_line\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (100, {resource.RLIM_INFINITY}))\n"
        "append_line(Path(sys.argv[1]), b'a' * 60)\n"
        "append_line(Path(sys.argv[1]), b'b' * 60)\n"
    )
    writer = subprocess.run([sys.executable, "-c", program, log], capture_output=True, text=True, check=False)
    assert "OSError" in writer.stderr
    assert log.read_bytes() == b"a" * 60 + b"\n"


def test_a_log_is_torn_while_its_last_line_has_no_end(tmp_path: Path) -> None:
    with (tmp_path / "log").open("a+b", buffering=0) as file:
        assert not is_torn(file.fileno())
        append(file.fileno(), b"a")
        assert is_torn(file.fileno())
        append(file.fileno(), b"\n")
        assert not is_torn(file.fileno())


@pytest.mark.parametrize("fair", [False, True])
def test_waiting_for_a_lock_ends_with_its_error(tmp_path: Path, fair: bool) -> None:
    lock = tmp_path / "lock"
    holder = start(HOLDS, lock, "alone")
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        began = time.monotonic()
        with pytest.raises(LockTimeout):
            acquire(lock, wait_s=0.2, fair=fair)
        assert 0.2 <= time.monotonic() - began < 10
    finally:
        holder.kill()
        holder.communicate()
    with acquire(lock, wait_s=5, fair=fair), lock.open("rb") as other:
        assert not try_lock(other.fileno())


def test_a_shared_lock_keeps_out_only_those_who_want_it_alone(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with acquire(lock, wait_s=1, shared=True), lock.open("rb") as other:
        assert not try_lock(other.fileno())
        assert try_lock(other.fileno(), shared=True)


def test_a_lock_in_a_missing_folder_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        acquire(tmp_path / "missing" / "lock", wait_s=1)


TERMS = st.frozensets(st.sampled_from("abcdefgh"))


@given(TERMS, TERMS, st.lists(TERMS))
def test_similarity_is_between_0_and_1_and_the_same_both_ways(
    one: frozenset[str], other: frozenset[str], texts: list[frozenset[str]]
) -> None:
    similar = Similarity(texts, frozenset("ab"))
    measures: list[Callable[[frozenset[str], frozenset[str]], float]] = [similar.cosine, similar.containment]
    for measure in measures:
        assert 0 <= measure(one, other) <= 1 + 1e-9
        assert measure(one, other) == measure(other, one)
    assert similar.cosine(one, one) == (1 if one else 0)
    assert (similar.containment(one, other) > 0) == bool((one & other) - frozenset("ab"))


def test_a_rare_term_counts_more_than_a_frequent_or_a_common_one() -> None:
    similar = Similarity([frozenset({"often", str(number)}) for number in range(50)], frozenset({"common"}))
    assert similar.weight("rare") > similar.weight("often") > 0
    assert similar.weight("rare") > similar.weight("common") > 0


@given(st.floats(0, 500), st.floats(0, 500))
def test_the_interval_holds_the_rate_and_narrows_with_the_number(good: float, bad: float) -> None:
    count = good + bad
    low, high = wilson_interval(good, count)
    rate = good / count if count else 0.5
    assert 0 <= low <= rate + 1e-9
    assert rate - 1e-9 <= high <= 1
    more_low, more_high = wilson_interval(10 * good, 10 * count)
    assert more_high - more_low <= high - low + 1e-9
    assert wilson_interval(good + 1, count + 1)[0] >= low - 1e-9
    assert wilson_interval(good, count + 1)[0] <= low + 1e-9


def test_the_interval_of_five_in_five_is_the_known_one() -> None:
    low, high = wilson_interval(5, 5)
    assert (round(low, 3), round(high, 3)) == (0.566, 1.0)


@pytest.mark.parametrize(
    ("limit", "rstrip", "cut"),
    [(7, False, "one two"), (5, False, "one …"), (5, True, "one…"), (1, False, "…")],
)
def test_a_truncated_text_keeps_to_its_limit(limit: int, rstrip: bool, cut: str) -> None:
    assert truncate("one two", limit, rstrip=rstrip) == cut
