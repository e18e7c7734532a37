"""The demo's prompt with a model that meets trouble at its calls: it ends as it should.

Here a run meets a fault at every call, of each kind in turn; with `-m thorough`, one kind at every call, or
at a few where waiting takes its time. The whole matrix, a run for each fault at each call, is
`python -m benchmarks.fault_matrix`.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint
from replay import FAULTS, WRONG, Replay

from orchestrator_cli.cli.commands.ask import PROMPT, recording_path
from orchestrator_cli.models.sources import Recording

CALLS = 23
LAST_CODE = "toolsmith:file_fingerprint#4"
FEW = ("planner#1", "toolsmith:file_fingerprint#2", "agent:grow#2", "answer#1")
"""Where waiting takes its time, for a late reply or before the next try, these stand for the others."""


@pytest.fixture(scope="module")
def recording() -> Recording:
    return Recording.read(recording_path(again=False))


@pytest.fixture(scope="module")
def right(recording: Recording, stage: tuple[Orch, Endpoint]) -> str:
    """What new.txt holds at the end of a run without faults."""
    orch, endpoint = stage
    endpoint.reply = Replay(recording)
    done = orch("ask", PROMPT)
    assert done.code == 0, done.err
    assert len(endpoint.exchanges) == len(recording.exchanges) == CALLS
    return orch.file("new.txt")


def fits(fault: str, name: str) -> bool:
    """Whether a run can meet a fault there and still end as it would."""
    if fault == "late":
        return name in FEW[::2]
    if fault in ("500", "cut"):
        return name in FEW
    if fault == "schema":
        # An agent's second value that does not fit ends its attempt, and any text is an answer.
        return name.endswith("#1") and name != "answer#1"
    # The toolsmith's first code fails its cases: two more that cannot be used were a round too many.
    return fault not in WRONG or name != LAST_CODE


def alone(fault: str, names: Iterable[str]) -> dict[str, str]:
    """One fault, wherever it fits."""
    return {name: fault for name in names if fits(fault, name)}


def in_turn(first: int, names: Iterable[str]) -> dict[str, str]:
    """A fault at every call, each time the next that fits; those that wait go first where they may."""
    due, found = deque([*FAULTS[first:], *FAULTS[:first]]), {}
    for name in names:
        chosen = min((f for f in due if fits(f, name)), key=lambda f: f not in ("late", "500", "cut"))
        due.remove(chosen)
        due.append(chosen)
        found[name] = chosen
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "given"),
    [
        pytest.param(in_turn, 0, id=f"from {FAULTS[0]}"),
        pytest.param(in_turn, 3, id=f"from {FAULTS[3]}", marks=pytest.mark.thorough),
        *(pytest.param(alone, fault, id=fault, marks=pytest.mark.thorough) for fault in FAULTS),
    ],
)
def test_a_fault_once_at_every_call_changes_nothing_of_how_the_run_ends(
    orch: Orch,
    endpoint: Endpoint,
    recording: Recording,
    right: str,
    faults: Callable[[Any, Iterable[str]], dict[str, str]],
    given: Any,
) -> None:
    chosen = faults(given, recording.exchanges)
    if faults is in_turn:
        assert set(chosen.values()) == set(FAULTS)
    endpoint.reply = replay = Replay(recording, chosen)
    done = orch("ask", PROMPT, timeout=150, ORCH_MODEL_TIMEOUT="4" if "late" in chosen.values() else "30")
    assert done.code == 0, done.err
    assert orch.file("new.txt") == right
    assert sorted(replay.met) == sorted(chosen)
    assert "Traceback" not in done.err
    assert orch.remains() == []
