"""A plan as a model or a person wrote it becomes one that may run, or the list of all that is wrong."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from orchestrator_cli.plan import Catalogue, Plan
from orchestrator_cli.planning.repair import Repair, repaired
from orchestrator_cli.planning.structured_output import Unusable, describe
from orchestrator_cli.planning.validation import faults

OWN = frozenset({"version", "routes"})
"""What the runtime says of a plan, whatever its author writes there."""
OF_A_KIND = frozenset({"instruction", "role", "tools", "process", "for_each"})
"""Fields that cannot be judged where the kind is not known."""


def read_plan(rows: Mapping[str, Any], catalogue: Catalogue) -> tuple[Plan, tuple[Repair, ...]]:
    """The plan and what was set right in it. Raises `Unusable` with every fault."""
    rows = {key: value for key, value in rows.items() if key not in OWN}
    try:
        plan, told = repaired(Plan.model_validate(rows), catalogue)
    except ValidationError as exc:
        raise Unusable(describe(exc, rows) + _further(rows, exc, catalogue)) from exc
    if found := faults(plan, catalogue):
        raise Unusable([str(fault) for fault in found])
    return plan, told


def _further(rows: dict[str, Any], exc: ValidationError, catalogue: Catalogue) -> list[str]:
    """What else is wrong beside values of a wrong form, so that all is mended in one go."""
    places = [error["loc"] for error in exc.errors(include_url=False)]
    formless: dict[Any, set[str]] = {}
    for place in places:
        if len(place) > 2 and place[0] == "subtasks":
            formless.setdefault(place[1], set()).add(str(place[2]))
    if any(place[0] == "subtasks" and len(place) < 3 for place in places):
        return []  # what is no subtask at all may be what others refer to
    subtasks, unjudged = [], set()
    for n, row in enumerate(rows.get("subtasks") or ()):
        bad = formless.get(n, set())
        if "id" in bad:
            return []
        stand_in = {"title": "", "kind": "answer"} if bad else {}
        subtasks.append(stand_in | {key: value for key, value in row.items() if key not in bad})
        unjudged |= {(row["id"], field) for field in (bad | OF_A_KIND if "kind" in bad else bad)}
    try:
        made = Plan.model_validate({"goal": "", "subtasks": subtasks})
    except ValidationError:
        return []
    found = faults(repaired(made, catalogue)[0], catalogue)
    return [str(fault) for fault in found if (fault.subtask, fault.field) not in unjudged]
