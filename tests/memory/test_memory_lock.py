"""One at a time, in the order of coming, and nobody waits for the dead."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from memory import MemoryBusy, MemoryUnavailable
from memory.edge_folder import exclusive

WAITER = """
import sys
from pathlib import Path
from memory.edge_folder import exclusive
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


def test_those_who_wait_come_in_the_order_in_which_they_came(tmp_path: Path) -> None:
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


def test_one_who_comes_back_at_once_lets_the_others_go_first(tmp_path: Path) -> None:
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


def test_one_who_was_killed_while_waiting_holds_up_nobody(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with exclusive(lock, wait_s=1):
        waiter = subprocess.Popen([sys.executable, "-c", WAITER, str(lock), "60"])
        await_tickets(lock, 1)
        waiter.kill()
        waiter.wait()
    assert len(tickets(lock)) == 1
    with exclusive(lock, wait_s=1):
        assert tickets(lock) == []


def test_one_who_was_stopped_while_waiting_holds_up_nobody_for_longer_than_it_would_wait(
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


def test_one_who_gives_up_leaves_the_queue(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with exclusive(lock, wait_s=1), pytest.raises(MemoryBusy), exclusive(lock, wait_s=0.02):
        pass
    assert tickets(lock) == []


def test_a_folder_that_is_not_there_is_a_clear_fault(tmp_path: Path) -> None:
    with (
        pytest.raises(MemoryUnavailable, match="cannot be opened"),
        exclusive(tmp_path / "a" / "b", wait_s=1),
    ):
        pass
