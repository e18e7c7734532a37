"""One at a time, in the order of arrival, without waiting for dead processes."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from memory import MemoryBusy, MemoryUnavailable
from memory.outbox import exclusive

WAITER = """
import sys
from pathlib import Path
from memory.outbox import exclusive
with exclusive(Path(sys.argv[1]), wait_s=float(sys.argv[2])):
    pass
"""


def tickets(lock: Path) -> list[str]:
    queue = lock.with_name(f"{lock.name}.queue")
    return [path.name for path in queue.iterdir() if not path.name.startswith(".")] if queue.exists() else []


def await_tickets(lock: Path, many: int) -> None:
    deadline = time.monotonic() + 30
    while len(tickets(lock)) != many:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_waiting_processes_are_served_in_order(tmp_path: Path) -> None:
    lock, order = tmp_path / "lock", []

    def take(number: int) -> None:
        with exclusive(lock, wait_s=60):
            order.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    with exclusive(lock, wait_s=1):
        for number, thread in enumerate(threads):
            thread.start()
            await_tickets(lock, number + 1)
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4, 5]
    assert tickets(lock) == []


def test_a_process_that_returns_at_once_waits_its_turn(tmp_path: Path) -> None:
    lock, heard = tmp_path / "lock", []

    def take() -> None:
        with exclusive(lock, wait_s=60):
            heard.append("other")

    other = threading.Thread(target=take)
    with exclusive(lock, wait_s=1):
        other.start()
        await_tickets(lock, 1)
    with exclusive(lock, wait_s=60):
        heard.append("back")
    other.join()
    assert heard == ["other", "back"]


def test_killed_waiter_delays_no_other(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with exclusive(lock, wait_s=1):
        waiter = subprocess.Popen([sys.executable, "-c", WAITER, str(lock), "60"])
        await_tickets(lock, 1)
        waiter.kill()
        waiter.wait()
    assert len(tickets(lock)) == 1
    with exclusive(lock, wait_s=1):
        assert tickets(lock) == []


def test_a_stopped_waiter_delays_others_no_longer_than_its_timeout(
    tmp_path: Path,
) -> None:
    lock = tmp_path / "lock"
    with exclusive(lock, wait_s=1):
        waiter = subprocess.Popen([sys.executable, "-c", WAITER, str(lock), "1.5"])
        await_tickets(lock, 1)
        waiter.send_signal(signal.SIGSTOP)
    try:
        with exclusive(lock, wait_s=30):
            assert len(tickets(lock)) == 1
    finally:
        waiter.kill()
        waiter.wait()


def test_a_waiter_that_times_out_leaves_the_queue(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with exclusive(lock, wait_s=1), pytest.raises(MemoryBusy), exclusive(lock, wait_s=0.02):
        pass
    assert tickets(lock) == []


def test_a_missing_folder_raises_memory_unavailable(tmp_path: Path) -> None:
    with (
        pytest.raises(MemoryUnavailable, match="cannot be opened"),
        exclusive(tmp_path / "a" / "b", wait_s=1),
    ):
        pass
