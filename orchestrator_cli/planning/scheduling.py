"""Which of the subtasks that are ready may start now: pure.

Ready subtasks start in the order they come in. One whose role has as many running as it may is
passed over, and does not hold up those behind it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from orchestrator_cli.planning.plan import Subtask


def admissible(
    ready: Iterable[Subtask], running: Mapping[str, int], limits: Mapping[str, int], *, free: int
) -> list[Subtask]:
    """The subtasks to start, at most `free` of them.

    Args:
        running: subtasks under way per role.
        limits: the most at once per role; what is not named has no limit.
    """
    chosen: list[Subtask] = []
    busy = Counter(running)
    for subtask in ready:
        if len(chosen) >= free:
            break
        if role_has_room(subtask, busy, limits):
            busy[subtask.role or ""] += 1
            chosen.append(subtask)
    return chosen


def role_has_room(subtask: Subtask, running: Mapping[str, int], limits: Mapping[str, int]) -> bool:
    """Whether one more subtask of its role may run."""
    role = subtask.role or ""
    return role not in limits or running.get(role, 0) < limits[role]
