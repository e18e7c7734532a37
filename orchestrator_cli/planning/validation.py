"""Lists everything that is wrong with a plan, in one pure function.

A planner that sees all faults can correct them in one reply. Nothing here raises or repairs.
"""

import builtins
import keyword
from graphlib import CycleError

from orchestrator_cli.durable.expressions import expression_faults
from orchestrator_cli.json_schema import schema_fault
from orchestrator_cli.plan import (
    ID,
    ITEM,
    READ_IMAGE,
    REFERENCE,
    RESERVED,
    Catalogue,
    Plan,
    PlanFault,
    Subtask,
    absence,
    ancestors,
    as_name,
    order,
    references,
    texts,
)
from orchestrator_cli.planning.call_arguments import argument_faults
from orchestrator_cli.planning.reference_forms import form_fault, reference_within
from toolsmith.names import OF_EVERY_AGENT
from toolsmith.permissions import MAX_PACKAGES, repeated_names, requirement_fault


def faults(plan: Plan, catalogue: Catalogue) -> list[PlanFault]:
    """Everything that is wrong with a plan, in reading order; empty if it may run.

    An unknown tool whose name is a valid function name is not a fault: the toolsmith builds it
    (see `plan.needs`).
    """
    found = _size_faults(plan, catalogue) + _id_faults(plan) + _new_tool_faults(plan, catalogue)
    for subtask in plan.subtasks:
        found += _edge_faults(plan, subtask)
        found += _kind_faults(subtask, catalogue)
        found += _tool_faults(subtask, catalogue)
        found += _package_faults(subtask)
        found += _attachment_faults(subtask, catalogue)
        found += _input_faults(plan, subtask)
        found += _call_faults(subtask, catalogue)
        found += _schema_faults(subtask)
        found += _expression_faults(subtask)
        found += _each_faults(plan, subtask)
    if plan.check is not None:
        found += _unreadable("plan", "check", plan.check, set(map(as_name, plan.ids)))
    return found + _circle_faults(plan)


def _size_faults(plan: Plan, catalogue: Catalogue) -> list[PlanFault]:
    count = len(plan.subtasks)
    if count == 0:
        return [PlanFault(subtask="plan", field="subtasks", message="is empty: give at least one subtask")]
    if count > catalogue.max_subtasks:
        message = f"has {count}, at most {catalogue.max_subtasks} are allowed: join small ones"
        return [PlanFault(subtask="plan", field="subtasks", message=message)]
    return []


def _id_faults(plan: Plan) -> list[PlanFault]:
    found, seen = [], set()
    for subtask in plan.subtasks:
        if not ID.match(subtask.id):
            message = (
                f"{subtask.id!r} is no slug: lower-case letters, digits, - and _, starting with a letter"
            )
            found.append(PlanFault(subtask=subtask.id or "(empty)", field="id", message=message))
        if subtask.id in RESERVED:
            message = "is reserved: `$item` and `$index` mean the item of a for_each; take another id"
            found.append(PlanFault(subtask=subtask.id, field="id", message=message))
        if subtask.id in seen:
            found.append(PlanFault(subtask=subtask.id, field="id", message="is used twice: ids are unique"))
        seen.add(subtask.id)
    return found


def _new_tool_faults(plan: Plan, catalogue: Catalogue) -> list[PlanFault]:
    return [
        PlanFault(
            subtask="plan",
            field="new_tools",
            message=f"{tool.name!r} exists: to use it, leave it out here; to have it do more, ask for a tool "
            f"of another name whose purpose says that it extends {tool.name!r} and how",
        )
        for tool in plan.new_tools
        if tool.name in catalogue.tools
    ]


def _edge_faults(plan: Plan, subtask: Subtask) -> list[PlanFault]:
    found = []
    for name in subtask.depends_on:
        if name == subtask.id:
            found.append(_fault(subtask, "depends_on", "names the subtask itself"))
        elif name not in plan.ids:
            found.append(_fault(subtask, "depends_on", f"names {name!r}, which is no subtask of this plan"))
    read = list(references(subtask.inputs))
    targets = [reference[1:].split(".")[0] for reference in read]
    # Most subtasks read only direct dependencies; then the search for all ancestors is not needed.
    direct = set(targets) <= set(subtask.depends_on)
    before = frozenset(subtask.depends_on) if direct else ancestors(plan, subtask.id)
    for reference, target in zip(read, targets, strict=True):
        if target == subtask.id:
            found.append(_fault(subtask, "inputs", f"{reference!r} is the result of the subtask itself"))
        elif target not in before:
            found.append(_fault(subtask, "inputs", f"{reference!r} needs {target!r} in depends_on"))
    return found


def _kind_faults(subtask: Subtask, catalogue: Catalogue) -> list[PlanFault]:
    match subtask.kind:
        case "agent":
            return _agent_faults(subtask, catalogue)
        case "tool" if len(subtask.tools) != 1:
            return [_fault(subtask, "tools", "a subtask of kind 'tool' names exactly one tool")]
        case "answer" if not subtask.instruction.strip():
            return [_fault(subtask, "instruction", "is empty: it holds the answer itself")]
        case "human" if not subtask.instruction.strip():
            return [_fault(subtask, "instruction", "is empty: it holds the question to the person")]
        case "process" if subtask.process not in catalogue.processes:
            known = ", ".join(sorted(catalogue.processes)) or "none"
            return [_fault(subtask, "process", f"{subtask.process!r} is not registered: there are {known}")]
    return []


def _agent_faults(subtask: Subtask, catalogue: Catalogue) -> list[PlanFault]:
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


def _tool_faults(subtask: Subtask, catalogue: Catalogue) -> list[PlanFault]:
    found = [
        _fault(subtask, "tools", f"{tool!r} is no tool's name: use letters, digits and _")
        for tool in subtask.tools
        if not tool.isidentifier()
    ]
    found += [
        _fault(subtask, "tools", f"{tool!r} is called by agents only, and each of them has it")
        for tool in subtask.tools
        if tool in OF_EVERY_AGENT
    ]
    gone = {tool: absence(tool, catalogue.absent) for tool in subtask.tools if tool not in catalogue.tools}
    return found + [
        _fault(subtask, "tools", f"{tool!r} is not there and cannot be built: {why}")
        for tool, why in gone.items()
        if why
    ]


def _package_faults(subtask: Subtask) -> list[PlanFault]:
    """Packages that cannot be requested, or that nothing would import."""
    if subtask.packages and subtask.kind != "agent":
        return [_fault(subtask, "packages", "only the code of an agent imports packages; leave it out")]
    if (count := len(subtask.packages)) > MAX_PACKAGES:
        return [_fault(subtask, "packages", f"has {count}, at most {MAX_PACKAGES} can be requested")]
    found = [
        _fault(subtask, "packages", fault) for fault in map(requirement_fault, subtask.packages) if fault
    ]
    twice = repeated_names(subtask.packages) if not found else []
    return found + [
        _fault(subtask, "packages", f"names {name} more than once; put all its bounds into one")
        for name in twice
    ]


def _attachment_faults(subtask: Subtask, catalogue: Catalogue) -> list[PlanFault]:
    """Attachments that nothing would look at, or that the user did not give."""
    if subtask.attachments and subtask.kind != "agent":
        return [_fault(subtask, "attachments", "only an agent is shown attached files; leave it out")]
    known = ", ".join(sorted(catalogue.attachments)) or "none"
    found = [
        _fault(subtask, "attachments", f"{name!r} is not attached; these are: {known}")
        for name in subtask.attachments
        if name not in catalogue.attachments
    ]
    if subtask.kind == "tool" and READ_IMAGE in subtask.tools:
        found.append(_fault(subtask, "tools", f"only an agent can look at an image with {READ_IMAGE}"))
    return found


def _input_faults(plan: Plan, subtask: Subtask) -> list[PlanFault]:
    """References in a form, or in a place, in which they are not replaced."""
    each = subtask.for_each is not None
    found = [
        _fault(subtask, "inputs", fault)
        for text in texts(subtask.inputs)
        if (fault := form_fault(text, plan.ids, each=each))
    ]
    others = plan.ids - {subtask.id}
    for field, text in (("instruction", subtask.instruction), ("judge", subtask.judge or "")):
        if said := reference_within(text, others, each=each):
            found.append(
                _fault(subtask, field, f"{said!r} is not replaced there: {_instead(subtask, field)}")
            )
    return found


def _instead(subtask: Subtask, field: str) -> str:
    if field == "judge":
        return "the judge sees the value only, so say in words what makes it good"
    if subtask.kind == "answer":
        return "leave this subtask out; the user's answer is written from all results"
    return "give it as one of the inputs, and call it by that input's name"


def _call_faults(subtask: Subtask, catalogue: Catalogue) -> list[PlanFault]:
    """Arguments that a tool or a process does not take."""
    name = subtask.process if subtask.kind == "process" else next(iter(subtask.tools), None)
    known = {"tool": catalogue.tool_inputs, "process": catalogue.process_inputs}.get(subtask.kind, {})
    if name is None or name not in known:
        return []

    def is_reference(text: str) -> bool:
        return bool(REFERENCE.match(text) or (subtask.for_each is not None and ITEM.match(text)))

    found = argument_faults(name, known[name], subtask.inputs, is_reference)
    return [_fault(subtask, "inputs", fault) for fault in found]


def _schema_faults(subtask: Subtask) -> list[PlanFault]:
    if subtask.result is None:
        return []
    fault = schema_fault(subtask.result)
    return [_fault(subtask, "result", fault)] if fault else []


def _expression_faults(subtask: Subtask) -> list[PlanFault]:
    found = []
    if subtask.check is not None:
        found += _unreadable(subtask.id, "check", subtask.check, {"value", "summary", "files"})
    if subtask.when is not None:
        found += _unreadable(subtask.id, "when", subtask.when, set(map(as_name, subtask.depends_on)))
    return found


def _unreadable(subtask: str, field: str, expression: str, names: set[str]) -> list[PlanFault]:
    return [
        PlanFault(subtask=subtask, field=field, message=fault)
        for fault in expression_faults(expression, names)
    ]


def _each_faults(plan: Plan, subtask: Subtask) -> list[PlanFault]:
    """Faults of `for_each`, and of `$item` without it."""
    if subtask.for_each is None:
        reads = any(ITEM.match(text) for text in texts(subtask.inputs))
        return [_fault(subtask, "inputs", "reads $item or $index, but has no for_each")] if reads else []
    if subtask.kind in ("answer", "human"):
        return [_fault(subtask, "for_each", f"does not go with kind {subtask.kind!r}")]
    match = REFERENCE.match(subtask.for_each)
    if match is None:
        return [_fault(subtask, "for_each", "is no reference to a list, such as $find.value.rows")]
    if match[1] not in ancestors(plan, subtask.id):
        return [_fault(subtask, "for_each", f"{subtask.for_each!r} needs {match[1]!r} in depends_on")]
    return []


def _circle_faults(plan: Plan) -> list[PlanFault]:
    try:
        order(plan)
    except CycleError as exc:
        circle = " -> ".join(reversed(exc.args[1]))
        return [PlanFault(subtask=exc.args[1][0], field="depends_on", message=f"goes in a circle: {circle}")]
    return []


def _fault(subtask: Subtask, field: str, message: str) -> PlanFault:
    return PlanFault(subtask=subtask.id, field=field, message=message)
