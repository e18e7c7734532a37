"""A plan as YAML that a person reads and edits, and back: pure functions.

A plan that was edited is judged like one that a model wrote: every fault is named, and stands
as a comment at the top of the text when the person is shown it again.
"""

import json
from collections.abc import Iterable
from typing import Any

import yaml

from orchestrator_cli.plan import Catalogue, Patch, Plan, Subtask
from orchestrator_cli.planning.reading import read_plan
from orchestrator_cli.planning.repair import Repair
from orchestrator_cli.planning.structured_output import Unusable

HEAD = """\
# The plan as it will run. Save and close the editor to run it as it stands then;
# an empty file means no. Lines that begin with # are passed over.
# A subtask: id, title, kind (answer, tool, agent, process, human), instruction, depends_on,
# inputs ("$other.value.key" reads a result), role, tools, when, for_each, result, check, judge,
# network, approve, on_failure (revise, skip, abort), retries, timeout_s.
"""
WIDTH = 100


def plan_text(plan: Plan, faults: Iterable[str] = ()) -> str:
    """The plan in block style, below an explanation and what is wrong with it."""
    rows = plan.model_dump(mode="json", exclude_defaults=True, exclude={"version", "subtasks", "routes"})
    rows["subtasks"] = [_rows(subtask) for subtask in plan.subtasks]
    return HEAD + fault_lines(faults) + _dumped(rows)


def patch_text(patch: Patch) -> str:
    """What a patch adds and replaces, with all fields, and what it removes."""
    rows: dict[str, Any] = {"reason": patch.reason}
    rows |= {"add": [_rows(s) for s in patch.add]} if patch.add else {}
    rows |= {"replace": [_rows(s) for s in patch.replace]} if patch.replace else {}
    rows |= {"remove": list(patch.remove)} if patch.remove else {}
    return _dumped(rows)


def edited_text(text: str, faults: Iterable[str]) -> str:
    """What a person wrote, with its faults at the top in place of earlier comments there."""
    lines = text.split("\n")
    while lines and lines[0].startswith("#"):
        del lines[0]
    return HEAD + fault_lines(faults) + "\n".join(lines)


def fault_lines(faults: Iterable[str]) -> str:
    told = [line for fault in faults for line in f"- {fault}".split("\n")]
    lines = ("", "It cannot run like this:", *told, "") if told else ()
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def may_be_edited(text: str) -> bool:
    """Whether a question shows a plan that can be given back edited."""
    return text.startswith(HEAD)


def is_empty(text: str) -> bool:
    """Whether nothing but comments is left."""
    return all(not line.strip() or line.lstrip().startswith("#") for line in text.split("\n"))


def read_plan_text(text: str, catalogue: Catalogue) -> tuple[Plan, tuple[Repair, ...]]:
    """The plan that a person wrote. Raises `Unusable` with every fault."""
    try:
        found = yaml.safe_load(text)
        # Dates and the like are no JSON, and were meant as text.
        rows = json.loads(json.dumps(found, default=str))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as exc:
        raise Unusable([f"plan: it is no YAML: {' '.join(str(exc).split())}"]) from exc
    if not isinstance(rows, dict):
        raise Unusable(["plan: it needs the keys goal and subtasks"])
    return read_plan(rows, catalogue)


def _rows(subtask: Subtask) -> dict[str, Any]:
    first = {"id": subtask.id, "title": subtask.title, "kind": subtask.kind}
    return first | subtask.model_dump(mode="json", exclude_defaults=True)


class _Dumper(yaml.SafeDumper):
    """Several lines of text stay several lines."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _dumped(rows: dict[str, Any]) -> str:
    return yaml.dump(rows, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)
