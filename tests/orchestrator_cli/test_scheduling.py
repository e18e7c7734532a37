"""Which ready subtasks start: within what is free, and within the limit of each role."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from orchestrator_cli.planning.plan import Subtask
from orchestrator_cli.planning.scheduling import admissible

ROLES = ["coder", "researcher", "writer"]


def subtask(name: str, role: str | None) -> Subtask:
    kind = "agent" if role else "tool"
    return Subtask.model_validate({"id": name, "title": name, "kind": kind, "role": role, "instruction": "x"})


ready = st.lists(st.none() | st.sampled_from(ROLES), max_size=12).map(
    lambda roles: [subtask(f"s{n}", role) for n, role in enumerate(roles)]
)
counts = st.dictionaries(st.sampled_from(ROLES), st.integers(0, 4))
limits = st.dictionaries(st.sampled_from(ROLES), st.integers(1, 5))


def test_a_role_that_is_busy_does_not_hold_up_the_others() -> None:
    waiting = [subtask("a", "coder"), subtask("b", "coder"), subtask("c", "writer"), subtask("d", None)]
    chosen = admissible(waiting, {"coder": 1}, {"coder": 2}, free=9)
    assert [s.id for s in chosen] == ["a", "c", "d"]


@given(ready, counts, limits, st.integers(0, 12))
def test_no_limit_is_passed_and_nothing_waits_that_could_start(
    waiting: list[Subtask], running: dict[str, int], most: dict[str, int], free: int
) -> None:
    chosen = admissible(waiting, running, most, free=free)
    busy = Counter(running)
    busy.update(s.role for s in chosen if s.role)
    assert len(chosen) <= free
    for role, limit in most.items():
        assert busy[role] <= max(limit, running.get(role, 0))
    for left in (s for s in waiting if s not in chosen):
        assert len(chosen) == free or (left.role in most and busy[left.role] >= most[left.role])


@given(ready, st.integers(0, 12))
def test_without_limits_they_start_in_their_order(waiting: list[Subtask], free: int) -> None:
    assert admissible(waiting, {}, {}, free=free) == waiting[:free]
