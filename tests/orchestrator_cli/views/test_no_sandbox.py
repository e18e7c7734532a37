"""That there is no sandbox cannot be overlooked, at a run's beginning and where it goes on."""

from datetime import UTC, datetime

import pytest

from orchestrator_cli.events import Event, RunResumed, RunStarted
from orchestrator_cli.state import RunState
from orchestrator_cli.views.entries import entry_for
from orchestrator_cli.views.narration import narrate

TOLD = "NO SANDBOX: NOTHING IS CONFINED; allowed by --unsafe-no-sandbox with -y"


def begun(sandbox: str) -> list[RunStarted | RunResumed]:
    started = RunStarted(prompt="Go.", workspace="/w", models={}, sandbox=sandbox, version="1")
    return [started, RunResumed(version="1", sandbox=sandbox)]


@pytest.mark.parametrize("place", [0, 1])
def test_it_is_said_before_anything_else_on_the_screen_and_in_bold_in_the_log(place: int) -> None:
    for sandbox, said in ((TOLD, True), ("bubblewrap", False)):
        event = Event(run="r1", seq=1, time=datetime.now(UTC), data=begun(sandbox)[place])
        assert ("**NO SANDBOX**: NOTHING IS CONFINED" in str(entry_for(event))) is said
        assert (narrate(event, RunState())[0].text == TOLD) is said
