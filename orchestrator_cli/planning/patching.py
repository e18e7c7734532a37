"""How a plan changes while it runs: a patch of the pending part makes the next version, or is refused."""

from collections.abc import Mapping, Sequence

from orchestrator_cli.plan import NOT_STARTED, Catalogue, Fault, Patch, Plan, Route, State, Subtask
from orchestrator_cli.planning.repair import Repair, repaired
from orchestrator_cli.planning.validation import faults


class PatchRefused(Exception):
    """A patch cannot be applied; `faults` says why, all at once."""

    def __init__(self, faults: list[Fault]) -> None:
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

    Refused: a stale base, a change to what has started, a pending subtask that would wait
    for a failed or removed one, a pending part that one of the `earlier` versions had already, and
    everything that `faults` finds in the outcome.
    """
    found = _patch_faults(plan, patch, states)
    if found:
        raise PatchRefused(found)
    patched = _joined(plan, patch)
    changed = {s.id for s in (*patch.add, *patch.replace)}
    found = faults(patched, catalogue) + _stranded(patched, states, changed)
    found += _circling(patched, states, earlier)
    if found:
        raise PatchRefused(found)
    return patched


def repaired_patch(plan: Plan, patch: Patch, catalogue: Catalogue) -> tuple[Patch, tuple[Repair, ...]]:
    """The patch with its slips set right, as those of a plan are, and what they were.

    A patch that would change anything else with that is left as it is, for `apply` to refuse.
    """
    joined = _joined(plan, patch)
    mended, told = repaired(joined, catalogue)
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
    return patch.model_copy(update=update) if told else patch, told


def _joined(plan: Plan, patch: Patch) -> Plan:
    new = {s.id: s for s in patch.replace}
    kept = [new.get(s.id, s) for s in plan.subtasks if s.id not in patch.remove]
    return plan.model_copy(
        update={
            "subtasks": (*kept, *patch.add),
            "new_tools": (*plan.new_tools, *patch.new_tools),
            "routes": _joined_routes(plan, patch),
            "version": plan.version + 1,
        }
    )


def _joined_routes(plan: Plan, patch: Patch) -> tuple[Route, ...]:
    """Those of the patch come in the place of the plan's."""
    gone = {route.subtask for route in patch.routes} | set(patch.remove)
    return (*(route for route in plan.routes if route.subtask not in gone), *patch.routes)


def _patch_faults(plan: Plan, patch: Patch, states: Mapping[str, State]) -> list[Fault]:
    found = []
    if patch.base_version != plan.version:
        message = f"is {patch.base_version}, the plan is at version {plan.version}"
        found.append(Fault(subtask="patch", field="base_version", message=message))
    for field, ids in (("replace", [s.id for s in patch.replace]), ("remove", list(patch.remove))):
        for name in ids:
            if name not in plan.ids:
                found.append(Fault(subtask=name, field=field, message="is no subtask of this plan"))
            elif states.get(name, "pending") not in NOT_STARTED:
                message = f"is {states[name]}: only pending subtasks can change; add a new one instead"
                found.append(Fault(subtask=name, field=field, message=message))
    found += [
        Fault(subtask=s.id, field="add", message="exists already: use replace, or another id")
        for s in patch.add
        if s.id in plan.ids and s.id not in patch.remove
    ]
    return found


def _stranded(plan: Plan, states: Mapping[str, State], touched: set[str]) -> list[Fault]:
    """Faults for changed subtasks that would wait for ever."""
    return [
        Fault(
            subtask=s.id,
            field="depends_on",
            message=f"waits for {d!r}, which failed: depend on what replaces it",
        )
        for s in plan.subtasks
        if s.id in touched
        for d in s.depends_on
        if states.get(d) == "failed"
    ]


def _circling(patched: Plan, states: Mapping[str, State], earlier: Sequence[Plan]) -> list[Fault]:
    """A fault where what has not started would be again as a version had it that was changed for a reason."""
    wanted = _pending_part(patched, states)
    if not wanted:
        return []  # to leave out all that is left cannot go on for ever
    for version in earlier:
        # What has started since is not part of the comparison: it cannot be changed back.
        if wanted == _pending_part(version, states):
            message = (
                f"would make what has not started as it was in version {version.version}: find another way"
            )
            return [Fault(subtask="patch", field="changes", message=message)]
    return []


def _pending_part(plan: Plan, states: Mapping[str, State]) -> dict[str, Subtask]:
    """What of a plan has not started; without the reasons, in which alone versions may differ."""
    return {
        s.id: s.model_copy(update={"why": ""})
        for s in plan.subtasks
        if states.get(s.id, "pending") in NOT_STARTED
    }
