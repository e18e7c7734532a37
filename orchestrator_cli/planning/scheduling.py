"""Whether a subtask that is ready may start now, as far as its role goes: pure."""

from collections.abc import Mapping

from orchestrator_cli.plan import Subtask


def role_has_room(subtask: Subtask, running: Mapping[str | None, int], limits: Mapping[str, int]) -> bool:
    """Whether one more subtask of its role may run.

    One that has to wait does not hold up those behind it.

    Args:
        running: subtasks under way per role.
        limits: the most at once per role; what is not named has no limit.
    """
    role = subtask.role or ""
    return role not in limits or running.get(role, 0) < limits[role]
