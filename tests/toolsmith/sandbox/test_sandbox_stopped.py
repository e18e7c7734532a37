"""What the host has stopped stays stopped, or the sandbox ends, on both backends, as root and as a user."""

from typing import Any

import pytest
from test_sandbox_attacks import USERS
from test_sandbox_disk import outcomes

RAN_ON = "processes that were stopped went on running"
WHY = {
    "runs on between steps": [RAN_ON],
    "runs on during a tool": [RAN_ON],
    "takes memory during a tool": ["held more than 200 MB", RAN_ON],  # whichever comes first
    "takes disk between steps": ["grew by more than 20 MB"],
    "takes disk during a tool": ["grew by more than 20 MB"],
    "starts processes between steps": [RAN_ON],
    "starts processes during a tool": [RAN_ON],
}


@pytest.mark.slow
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("backend", ["bubblewrap", "landlock"])
def test_what_is_stopped_stays_stopped(backend: str, user: str) -> None:
    found: dict[str, Any] = {**outcomes("stopped_run.py", user, backend)}
    kept = {"woken once": [False, "kept"], "not sent": [False, True, "kept"]}
    assert {way: found[way] for way in kept} == kept
    wrong = {
        way: found[way]
        for way, words in WHY.items()
        if found[way][:2] != [True, False] or not any(why in str(found[way][2]) for why in words)
    }
    assert wrong == {}
