"""How a plan changes while it runs: a patch of the pending part makes the next version, or is refused."""

from collections.abc import Mapping

from orchestrator_cli.planning.plan import NOT_STARTED, Catalogue, Fault, Patch, Plan, State, match_aliases
from orchestrator_cli.planning.validation import faults


class PatchRefused(Exception):
    """A patch cannot be applied; `faults` says why, all at once."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


def apply(plan: Plan, patch: Patch, states: Mapping[str, State], catalogue: Catalogue) -> Plan:
    """The next version of the plan. Raises `PatchRefused` with every reason at once.

    Refused: a stale base, a change to what has started, a pending subtask that would wait
    for a failed or removed one, and everything that `faults` finds in the outcome.
    """
    found = _patch_faults(plan, patch, states)
    if found:
        raise PatchRefused(found)
    new = {s.id: s for s in patch.replace}
    kept = [new.get(s.id, s) for s in plan.subtasks if s.id not in patch.remove]
    patched = plan.model_copy(
        update={
            "subtasks": (*kept, *patch.add),
            "new_tools": (*plan.new_tools, *patch.new_tools),
            "version": plan.version + 1,
        }
    )
    patched = match_aliases(patched, catalogue)
    found = faults(patched, catalogue) + _stranded(
        patched, states, {s.id for s in (*patch.add, *patch.replace)}
    )
    if found:
        raise PatchRefused(found)
    return patched


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
