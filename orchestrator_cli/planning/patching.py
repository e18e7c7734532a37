"""How a plan changes while it runs: a patch of the pending part makes the next version, or is refused."""

from collections.abc import Collection, Mapping, Sequence

from orchestrator_cli.errors import RecoverableError
from orchestrator_cli.plan import NOT_STARTED, Catalogue, Patch, Plan, PlanFault, State, Subtask, unstarted
from orchestrator_cli.planning.repair import Repair, repaired
from orchestrator_cli.planning.validation import faults


class PatchRefused(RecoverableError):
    """A patch cannot be applied; `faults` lists every reason."""

    def __init__(self, faults: list[PlanFault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


def apply(
    plan: Plan,
    patch: Patch,
    states: Mapping[str, State],
    catalogue: Catalogue,
    earlier: Sequence[Plan] = (),
) -> Plan:
    """The next version of the plan. Raises `PatchRefused` with every reason at once.

    Refused: a stale base; a change to a subtask that has started; a changed subtask that waits for a
    failed one; a pending part that an `earlier` version already had; and every fault of the result.
    """
    found = _patch_faults(plan, patch, states)
    if found:
        raise PatchRefused(found)
    patched = _joined(plan, patch)
    changed = {s.id for s in (*patch.add, *patch.replace)}
    # What has started cannot be changed, and what the plan had built before may exist by now.
    fixed = patched.ids - {s.id for s in unstarted(patched, states)}
    announced = patched.model_copy(update={"new_tools": patch.new_tools})
    found = [fault for fault in faults(announced, catalogue) if fault.subtask not in fixed]
    found += _stranded(patched, states, changed)
    found += _circling(patched, states, earlier)
    if found:
        raise PatchRefused(found)
    return patched


def repaired_patch(plan: Plan, patch: Patch, catalogue: Catalogue) -> tuple[Patch, tuple[Repair, ...]]:
    """The patch with its slips repaired as in `repair`, and the repairs.

    If a repair would change other parts of the plan, the patch stays as it is, for `apply` to refuse.
    """
    joined = _joined(plan, patch)
    mended, repairs = repaired(joined, catalogue)
    if len(mended.subtasks) != len(joined.subtasks) or mended.check != joined.check:
        return patch, ()
    first_added = len(joined.subtasks) - len(patch.add)
    pairs = list(zip(joined.subtasks, mended.subtasks, strict=True))[:first_added]
    replaced = {s.id for s in patch.replace}
    if any(old != new and old.id not in replaced for old, new in pairs):
        return patch, ()
    by_id = {old.id: new for old, new in pairs}
    update = {
        "add": mended.subtasks[first_added:],
        "replace": tuple(by_id.get(s.id, s) for s in patch.replace),
        "new_tools": mended.new_tools[len(plan.new_tools) :],
    }
    return patch.model_copy(update=update) if repairs else patch, repairs


def _joined(plan: Plan, patch: Patch) -> Plan:
    new = {s.id: s for s in patch.replace}
    kept = [new.get(s.id, s) for s in plan.subtasks if s.id not in patch.remove]
    rerouted = {route.subtask for route in patch.routes} | set(patch.remove)
    return plan.model_copy(
        update={
            "subtasks": (*kept, *patch.add),
            "new_tools": (*plan.new_tools, *patch.new_tools),
            "routes": (*(route for route in plan.routes if route.subtask not in rerouted), *patch.routes),
            "version": plan.version + 1,
        }
    )


def _patch_faults(plan: Plan, patch: Patch, states: Mapping[str, State]) -> list[PlanFault]:
    found = []
    if patch.base_version != plan.version:
        message = f"is {patch.base_version}, the plan is at version {plan.version}"
        found.append(PlanFault(subtask="patch", field="base_version", message=message))
    for field, ids in (("replace", [s.id for s in patch.replace]), ("remove", list(patch.remove))):
        for name in ids:
            if name not in plan.ids:
                found.append(PlanFault(subtask=name, field=field, message="is no subtask of this plan"))
            elif states.get(name, "pending") not in NOT_STARTED:
                message = f"is {states[name]}: only pending subtasks can change; add a new one instead"
                found.append(PlanFault(subtask=name, field=field, message=message))
    found += [
        PlanFault(subtask=s.id, field="add", message="exists already: use replace, or another id")
        for s in patch.add
        if s.id in plan.ids and s.id not in patch.remove
    ]
    return found


def _stranded(plan: Plan, states: Mapping[str, State], touched: set[str]) -> list[PlanFault]:
    """Faults of changed subtasks that would wait for ever."""
    return [
        PlanFault(
            subtask=s.id,
            field="depends_on",
            message=f"waits for {d!r}, which failed: depend on what replaces it",
        )
        for s in plan.subtasks
        if s.id in touched
        for d in s.depends_on
        if states.get(d) == "failed"
    ]


def _circling(patched: Plan, states: Mapping[str, State], earlier: Sequence[Plan]) -> list[PlanFault]:
    """A fault if the pending part would be the same as in an earlier version."""
    wanted = _pending_part(patched, states)
    if not wanted:
        return []  # removing all that is left cannot repeat for ever
    for version in earlier:
        # What has started since cannot be changed back, so it is not compared.
        if wanted == _pending_part(version, states):
            message = (
                f"would make what has not started as it was in version {version.version}: find another way"
            )
            return [PlanFault(subtask="patch", field="changes", message=message)]
    return []


def _pending_part(plan: Plan, states: Mapping[str, State]) -> dict[str, Subtask]:
    """The subtasks that have not started, without `why`: versions must differ in more than that."""
    return {
        s.id: s.model_copy(update={"why": ""})
        for s in plan.subtasks
        if states.get(s.id, "pending") in NOT_STARTED
    }


# --- a tool under another name


def substituted(
    plan: Plan, wanted: str, serving: str, subtasks: Collection[str]
) -> tuple[Plan, tuple[Repair, ...]]:
    """The plan in which these subtasks use the tool `serving` instead of `wanted`, and the changes made.

    For a tool that the plan asks for and that the library has under another name. `subtasks` have not
    started; those of kind `tool` have calls that fit `serving`. An agent's instruction gets a line that
    says so, because it may mention the tool by the planned name.
    """
    rows, repairs = [], []
    for subtask in plan.subtasks:
        if subtask.id not in subtasks or wanted not in subtask.tools:
            rows.append(subtask)
            continue
        rows.append(_with_tool(subtask, wanted, serving))
        message = f"{wanted!r} is served by {serving!r}, which the library has"
        repairs.append(Repair(subtask=subtask.id, field="tools", message=message))
    if not repairs:
        return plan, ()
    named = {name for subtask in rows for name in subtask.tools}
    new = tuple(tool for tool in plan.new_tools if tool.name != wanted or wanted in named)
    return plan.model_copy(update={"subtasks": tuple(rows), "new_tools": new}), tuple(repairs)


def _with_tool(subtask: Subtask, wanted: str, serving: str) -> Subtask:
    tools = tuple(dict.fromkeys(serving if name == wanted else name for name in subtask.tools))
    change: dict[str, object] = {"tools": tools}
    if subtask.kind != "tool":
        note = f"The tool `{wanted}` is there under the name `{serving}`."
        change["instruction"] = f"{subtask.instruction}\n\n{note}".strip()
    return subtask.model_copy(update=change)
