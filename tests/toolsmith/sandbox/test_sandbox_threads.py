"""A process lives while any of its threads does, on both backends, as root and as an ordinary user."""

import pytest
from test_sandbox_attacks import USERS
from test_sandbox_disk import outcomes

KEPT = {
    "memory": "held more than 256 MB",
    "memory of a process that hides": "held more than 256 MB",
    "processes": "started more than 32 processes",
}


@pytest.mark.slow
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("backend", ["bubblewrap", "landlock"])
def test_a_process_whose_main_thread_has_ended_counts_and_ends(backend: str, user: str) -> None:
    found = outcomes("process_run.py", user, backend)
    outlived = {way for way in ("interrupted", "closed") if found[way]}
    assert ([way for way, words in KEPT.items() if words not in found[way]], outlived) == ([], set()), found
