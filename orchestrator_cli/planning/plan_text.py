"""A plan as YAML for a person to read and edit, and back: pure functions.

An edited plan is checked like one that a model wrote. Its faults appear as comments at the top of the text
that the person sees next.
"""

import json
import textwrap
from collections.abc import Iterable
from typing import Any, get_args

import yaml

from orchestrator_cli.durable.foreign import visible
from orchestrator_cli.durable.yaml_text import read_yaml
from orchestrator_cli.plan import Catalogue, Patch, Plan, Subtask
from orchestrator_cli.planning.repair import Repair
from orchestrator_cli.planning.structured_output import Unusable, read_plan

WIDTH = 100
NOTES = {
    "kind": ", ".join(get_args(Subtask.model_fields["kind"].annotation)),
    "inputs": '"$other.value.key" reads a result',
    "on_failure": ", ".join(get_args(Subtask.model_fields["on_failure"].annotation)),
}
FIELDS = ", ".join(f"{name} ({NOTES[name]})" if name in NOTES else name for name in Subtask.model_fields)
SHOWN = "# The plan as it will run."
"""How the text of a plan begins."""
RUN_AT_CLOSE = "Save and close the editor to run it as you leave it; an empty file means no."
RUN_LATER = "Save and close the editor to keep it for /run as you leave it; an empty file changes nothing."
KEYS = f"""\
# Lines that begin with # are ignored.
{textwrap.fill(f"A subtask: {FIELDS}.", WIDTH - 4, initial_indent="# ", subsequent_indent="# ")}
"""


def _head(*, runs: bool) -> str:
    whole = f"{SHOWN} {RUN_AT_CLOSE if runs else RUN_LATER}"
    return "\n".join([*textwrap.wrap(whole, WIDTH - 20, subsequent_indent="# "), KEYS])


def plan_text(plan: Plan, faults: Iterable[str] = (), *, runs: bool = True) -> str:
    """The plan in block style, below an explanation and its faults.

    `runs`: it runs when the editor is closed.
    """
    rows = plan.model_dump(mode="json", exclude_defaults=True, exclude={"version", "subtasks", "routes"})
    rows["subtasks"] = [_rows(subtask) for subtask in plan.subtasks]
    return _head(runs=runs) + fault_lines(faults) + _dumped(rows)


def patch_text(patch: Patch, plan: Plan) -> str:
    """What a patch of a plan adds, with all fields, which fields it changes to what, and what it removes."""
    rows: dict[str, Any] = {"reason": patch.reason}
    rows |= {"add": [_rows(s) for s in patch.add]} if patch.add else {}
    rows |= {"replace": [_changes(plan[s.id], s) for s in patch.replace]} if patch.replace else {}
    rows |= {"remove": list(patch.remove)} if patch.remove else {}
    return _dumped(rows)


def edited_text(text: str, faults: Iterable[str], *, runs: bool = True) -> str:
    """What a person wrote, with its faults at the top instead of earlier comments."""
    lines = text.split("\n")
    while lines and lines[0].startswith("#"):
        del lines[0]
    return _head(runs=runs) + fault_lines(faults) + "\n".join(lines)


def fault_lines(faults: Iterable[str]) -> str:
    # YAML ends a comment at other signs than line feeds too.
    listed = [visible(line) for fault in faults for line in f"- {fault}".split("\n")]
    lines = ("", "It cannot run like this:", *listed, "") if listed else ()
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def may_be_edited(text: str) -> bool:
    """Whether a question shows a plan that the person can edit."""
    return text.startswith(SHOWN)


def is_empty(text: str) -> bool:
    """Whether the text has only comments."""
    return all(not line.strip() or line.lstrip().startswith("#") for line in text.split("\n"))


def read_plan_text(text: str, catalogue: Catalogue) -> tuple[Plan, tuple[Repair, ...]]:
    """The plan that a person wrote. Raises `Unusable` with every fault."""
    try:
        found = read_yaml(text)
        # Dates and the like are not JSON; the person meant text.
        rows = json.loads(json.dumps(found, default=str))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as exc:
        raise Unusable([f"plan: it is not YAML: {' '.join(str(exc).split())}"]) from exc
    if not isinstance(rows, dict):
        raise Unusable(["plan: it needs the keys goal and subtasks"])
    return read_plan(rows, catalogue)


def _rows(subtask: Subtask) -> dict[str, Any]:
    first = {"id": subtask.id, "title": subtask.title, "kind": subtask.kind}
    return first | subtask.model_dump(mode="json", exclude_defaults=True)


def _changes(before: Subtask, after: Subtask) -> dict[str, Any]:
    was, is_ = before.model_dump(mode="json"), after.model_dump(mode="json")
    return {"id": after.id} | {name: value for name, value in is_.items() if value != was[name]}


class _Dumper(yaml.SafeDumper):
    """Several lines of text stay several lines, and nothing is an alias."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def _dumped(rows: dict[str, Any]) -> str:
    return yaml.dump(rows, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)
