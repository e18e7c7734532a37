"""What is wrong with a plan: one pure function that names every fault at once.

A planner mends in one go what it is told in one go. Nothing here raises, and nothing is
repaired silently.
"""

import builtins
import keyword
from graphlib import CycleError

import jsonschema

from orchestrator_cli.planning.plan import (
    ID,
    Catalogue,
    Fault,
    Plan,
    Subtask,
    ancestors,
    names_in,
    order,
    references,
)


def faults(plan: Plan, catalogue: Catalogue) -> list[Fault]:
    """Everything that is wrong with a plan, in reading order; empty where it may run.

    A tool that nobody has is no fault when its name could be a function's: it is a need
    (see `plan.needs`), which the toolsmith is given.
    """
    found = _size_faults(plan, catalogue) + _id_faults(plan)
    for subtask in plan.subtasks:
        found += _edge_faults(plan, subtask)
        found += _kind_faults(subtask, catalogue)
        found += _tool_faults(subtask)
        found += _schema_faults(subtask)
        found += _expression_faults(subtask)
    return found + _circle_faults(plan)


def _size_faults(plan: Plan, catalogue: Catalogue) -> list[Fault]:
    count = len(plan.subtasks)
    if count == 0:
        return [Fault(subtask="plan", field="subtasks", message="is empty: give at least one subtask")]
    if count > catalogue.max_subtasks:
        message = f"has {count}, at most {catalogue.max_subtasks} are allowed: join small ones"
        return [Fault(subtask="plan", field="subtasks", message=message)]
    return []


def _id_faults(plan: Plan) -> list[Fault]:
    found, seen = [], set()
    for subtask in plan.subtasks:
        if not ID.match(subtask.id):
            message = (
                f"{subtask.id!r} is no slug: lower-case letters, digits, - and _, starting with a letter"
            )
            found.append(Fault(subtask=subtask.id or "(empty)", field="id", message=message))
        if subtask.id in seen:
            found.append(Fault(subtask=subtask.id, field="id", message="is used twice: ids are unique"))
        seen.add(subtask.id)
    return found


def _edge_faults(plan: Plan, subtask: Subtask) -> list[Fault]:
    found = []
    for name in subtask.depends_on:
        if name == subtask.id:
            found.append(_fault(subtask, "depends_on", "names the subtask itself"))
        elif name not in plan.ids:
            found.append(_fault(subtask, "depends_on", f"names {name!r}, which is no subtask of this plan"))
    before = ancestors(plan, subtask.id)
    for reference in references(subtask.inputs):
        target = reference[1:].split(".")[0]
        if target not in before:
            found.append(_fault(subtask, "inputs", f"{reference!r} needs {target!r} in depends_on"))
    return found


def _kind_faults(subtask: Subtask, catalogue: Catalogue) -> list[Fault]:
    match subtask.kind:
        case "agent":
            return _agent_faults(subtask, catalogue)
        case "tool" if len(subtask.tools) != 1:
            return [_fault(subtask, "tools", "a subtask of kind 'tool' names exactly one tool")]
        case "answer" if not subtask.instruction.strip():
            return [_fault(subtask, "instruction", "is empty: it holds the answer itself")]
    return []


def _agent_faults(subtask: Subtask, catalogue: Catalogue) -> list[Fault]:
    found = []
    if subtask.role is None or subtask.role not in catalogue.roles:
        known = ", ".join(sorted(catalogue.roles))
        found.append(_fault(subtask, "role", f"{subtask.role!r} is unknown: there are {known}"))
    if not subtask.instruction.strip():
        found.append(_fault(subtask, "instruction", "is empty: say what the agent is to do"))
    for name in subtask.inputs:
        if not name.isidentifier() or keyword.iskeyword(name) or hasattr(builtins, name):
            found.append(
                _fault(subtask, "inputs", f"{name!r} is no good name for a variable: choose another")
            )
    return found


def _tool_faults(subtask: Subtask) -> list[Fault]:
    return [
        _fault(subtask, "tools", f"{tool!r} is no tool's name: use letters, digits and _")
        for tool in subtask.tools
        if not tool.isidentifier()
    ]


def _schema_faults(subtask: Subtask) -> list[Fault]:
    if subtask.result is None:
        return []
    try:
        jsonschema.Draft202012Validator.check_schema(subtask.result)
    except jsonschema.SchemaError as exc:
        return [_fault(subtask, "result", f"is no JSON Schema: {exc.message}")]
    return []


def _expression_faults(subtask: Subtask) -> list[Fault]:
    allowed = {
        "check": frozenset({"value", "summary", "files"}) | _FUNCTIONS,
        "when": frozenset(name.replace("-", "_") for name in subtask.depends_on) | _FUNCTIONS,
    }
    found = []
    for field, names in allowed.items():
        expression = getattr(subtask, field)
        if expression is None:
            continue
        try:
            unknown = sorted(names_in(expression) - names)
        except (SyntaxError, ValueError) as exc:
            found.append(_fault(subtask, field, f"is no expression: {exc}"))
            continue
        if unknown:
            readable = ", ".join(sorted(names - _FUNCTIONS)) or "nothing"
            found.append(_fault(subtask, field, f"reads {', '.join(unknown)}; it can read {readable}"))
    return found


_FUNCTIONS = frozenset({"len", "str", "int", "float", "abs", "min", "max", "sum", "any", "all", "sorted"})


def _circle_faults(plan: Plan) -> list[Fault]:
    try:
        order(plan)
    except CycleError as exc:
        circle = " -> ".join(reversed(exc.args[1]))
        return [Fault(subtask=exc.args[1][0], field="depends_on", message=f"goes in a circle: {circle}")]
    return []


def _fault(subtask: Subtask, field: str, message: str) -> Fault:
    return Fault(subtask=subtask.id, field=field, message=message)
