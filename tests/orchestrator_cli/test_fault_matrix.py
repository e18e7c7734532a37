"""The demo's prompt with a model that meets trouble at its calls: it ends as it should.

Here each fault is met once at every call, or at a few where waiting takes its time, all in one run. The
whole matrix, a run for each fault at each call, is `python -m benchmarks.fault_matrix`.
"""

import pytest
from command import Orch
from endpoint import Endpoint
from replay import FAULTS, Replay

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


def places(fault: str, recording: Recording) -> tuple[str, ...]:
    if fault == "late":
        return FEW[::2]
    if fault in ("500", "cut"):
        return FEW
    if fault == "schema":
        # An agent's second value that does not fit ends its attempt, and any text is an answer.
        return tuple(name for name in recording.exchanges if name.endswith("#1") and name != "answer#1")
    if fault in ("prose", "empty"):
        # The toolsmith's first code fails its cases: two more that cannot be used were a round too many.
        return tuple(name for name in recording.exchanges if name != LAST_CODE)
    return tuple(recording.exchanges)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_once_at_every_call_changes_nothing_of_how_the_run_ends(
    orch: Orch, endpoint: Endpoint, recording: Recording, right: str, fault: str
) -> None:
    """About 4 s each, and 10 s for the late one."""
    chosen = places(fault, recording)
    endpoint.reply = replay = Replay(recording, fault, chosen)
    done = orch("ask", PROMPT, ORCH_MODEL_TIMEOUT="4" if fault == "late" else "30")
    assert done.code == 0, done.err
    assert orch.file("new.txt") == right
    assert sorted(replay.met) == sorted(chosen)
    assert "Traceback" not in done.err
    assert orch.remains() == []
