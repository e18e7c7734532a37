"""A tool that a plan names, served by one of another name: what the plan says from then on. Pure.

Only subtasks that have not started change, and of kind `tool` only those whose call fits the other tool.
An agent is told in its instruction, which may speak of the tool by the name it was planned with.
"""

from collections.abc import Collection

from orchestrator_cli.plan import Plan, Subtask
from orchestrator_cli.planning.repair import Repair


def substituted(
    plan: Plan, wanted: str, serving: str, subtasks: Collection[str]
) -> tuple[Plan, tuple[Repair, ...]]:
    """The plan in which these subtasks name `serving` where they named `wanted`, and what was changed."""
    rows, told = [], []
    for subtask in plan.subtasks:
        if subtask.id not in subtasks or wanted not in subtask.tools:
            rows.append(subtask)
            continue
        rows.append(_with(subtask, wanted, serving))
        message = f"{wanted!r} is served by {serving!r}, which the library has"
        told.append(Repair(subtask=subtask.id, field="tools", message=message))
    if not told:
        return plan, ()
    named = {name for subtask in rows for name in subtask.tools}
    new = tuple(tool for tool in plan.new_tools if tool.name != wanted or wanted in named)
    return plan.model_copy(update={"subtasks": tuple(rows), "new_tools": new}), tuple(told)


def _with(subtask: Subtask, wanted: str, serving: str) -> Subtask:
    tools = tuple(dict.fromkeys(serving if name == wanted else name for name in subtask.tools))
    change: dict[str, object] = {"tools": tools}
    if subtask.kind != "tool":
        told = f"The tool `{wanted}` is there under the name `{serving}`."
        change["instruction"] = f"{subtask.instruction}\n\n{told}".strip()
    return subtask.model_copy(update=change)
