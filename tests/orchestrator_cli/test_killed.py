"""Runs killed with SIGKILL and gone on with: nothing finished is done twice, and nothing is lost or doubled.

Every event of each run is for `python -m benchmarks.kill_matrix`; here it is one event of each kind.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash import By, Mortals
from crash_scenes import Approvals, Demo, Loops, Maps, Scene, Stranded, Twelve
from engine import Engine


@pytest.fixture(scope="module")
def mortals(engine: Engine) -> Iterator[Mortals]:
    run = Mortals(engine.url, engine.home)
    yield run
    run.close()


def first_of_each_kind(scene: Scene, kinds: set[str] | None) -> dict[int, str]:
    """The events of a run at which it is killed, of these kinds or of all."""
    found: dict[str, int] = {}
    for row in scene.place.journal:
        found.setdefault(row["data"]["kind"], row["seq"])
    return {at: kind for kind, at in found.items() if kinds is None or kind in kinds}


TWELVE_ALONE = {"SubtaskAccepted", "SubtaskFailed", "PlanRevised", "SubtaskFinished", "FilesChanged"}
"""What is worth killing at where branches run beside each other."""
ASKED = {"PlanProposed", "ApprovalAsked", "ApprovalGiven", "CodeRan", "RunFinished"}
"""What a short run shows as well as a long one."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("make", "by", "kinds"),
    [
        pytest.param(Demo, "line", None, id="demo", marks=pytest.mark.thorough),
        pytest.param(Twelve, "journal", TWELVE_ALONE, id="twelve", marks=pytest.mark.thorough),
        pytest.param(Stranded, "line", {"SubtaskSkipped"}, id="stranded"),
        pytest.param(
            Maps, "line", {"SubtaskFailed", "SubtaskFinished"}, id="maps", marks=pytest.mark.thorough
        ),
        pytest.param(
            Loops, "line", {"PlanRevised", "RevisionDeclined"}, id="loops", marks=pytest.mark.thorough
        ),
        pytest.param(Approvals, "line", ASKED, id="approvals", marks=pytest.mark.thorough),
    ],
)
def test_a_run_killed_at_an_event_ends_as_if_it_had_not_been(
    mortals: Mortals, tmp_path: Path, make: Callable[[Path], Scene], by: By, kinds: set[str] | None
) -> None:
    counts, chance = Counter[str](), random.Random(7)
    with make(tmp_path / "scene") as scene:
        whole = scene.undisturbed(mortals)
        points = first_of_each_kind(scene, kinds)
        faults = {
            f"{kind} (event {at})": found
            for at, kind in points.items()
            if (found := scene.disturbed(mortals, by, at, counts, whole, chance))
        }
    assert not faults
    assert counts["runs killed"] >= len(points) - 1
    assert counts["finished subtasks run twice"] == 0
