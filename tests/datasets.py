"""Public sets to measure with, which are not part of the product: where they are, and their plans as ours.

They are looked for where BENCH_DATA says, else in `shared/data` beside the checkout. What needs one says so
and is left out where it is missing.

    recorded_plans   what weaker models planned, with all their slips: nodes that name a tool and may name
                     other nodes (`<node-0>`) in their arguments, and links by the tools' names
    worfbench        task graphs made with care: numbered nodes, and edges between START, the numbers and END
    llmcompiler      questions, and how many branches the best plan for each has

What is not covered: a name in a link can fit two nodes. It is carried over as it is, because whether that may
run is for the rules of a plan to say.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("BENCH_DATA") or Path(__file__).parents[2] / "shared" / "data")
MISSING = f"the public sets are not in {DATA.name}/: set BENCH_DATA to the folder that holds them"

NODE = re.compile(r"<node-(\d+)>\Z")
Rows = dict[str, Any]


def have(name: str) -> bool:
    return (DATA / name).is_dir()


# --- recorded plans


@dataclass(frozen=True)
class RecordedPlan:
    request: str
    rows: Rows
    """As a planner would have replied it."""


RECORDED = {
    "huggingface.CodeLlama-13b.jsonl": "huggingface.tools.json",
    "multimedia.mistral-7b.jsonl": "multimedia.tools.json",
}


def recorded_plans(file: str) -> Iterator[RecordedPlan]:
    for line in (DATA / "recorded_plans" / file).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield RecordedPlan(row["user_request"], as_rows(row))


def recorded_tools(file: str) -> frozenset[str]:
    """The tools that there were, under names that functions can have."""
    rows = json.loads((DATA / "recorded_plans" / RECORDED[file]).read_text(encoding="utf-8"))
    return frozenset(as_function(node["id"]) for node in rows["nodes"])


def as_function(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower()).strip("_")


def as_rows(recorded: Rows) -> Rows:
    """A recorded plan in our words. The id of a subtask is its tool's name, as links call it."""
    nodes = recorded["task_nodes"]
    names = [node["task"] for node in nodes]
    subtasks = []
    for name, node in zip(names, nodes, strict=True):
        before = [str(link.get("source")) for link in recorded["task_links"] if link.get("target") == name]
        inputs = {f"argument_{n}": value for n, value in enumerate(node.get("arguments") or ())}
        row = {"id": name, "title": name, "kind": "tool", "tools": [name], "depends_on": before}
        subtasks.append(row | {"inputs": {key: _referred(value, names) for key, value in inputs.items()}})
    return {"goal": recorded["user_request"], "subtasks": subtasks}


def _referred(value: Any, names: list[str]) -> Any:
    """`<node-1>` as our reference; a number that no node has stays a reference to nothing."""
    if isinstance(value, dict):
        return {key: _referred(item, names) for key, item in value.items()}
    match = NODE.match(value) if isinstance(value, str) else None
    if match is None:
        return value
    number = int(match[1])
    return f"${names[number] if number < len(names) else f'node-{number}'}.value"


# --- gold graphs


@dataclass(frozen=True)
class GoldGraph:
    name: str
    nodes: dict[str, str]
    """What is done, by its number."""
    edges: tuple[tuple[str, str], ...]


GOLD = ("lumos", "os", "seal_tools", "toolalpaca")


def gold_graphs(file: str) -> Iterator[GoldGraph]:
    for n, row in enumerate(json.loads((DATA / "worfbench" / f"{file}.json").read_text(encoding="utf-8"))):
        yield gold_graph(f"{file}-{n}", row["conversations"][-1]["content"])


def gold_graph(name: str, text: str) -> GoldGraph:
    head, tail = re.split(r"^\s*Edges?\s*:", text, maxsplit=1, flags=re.MULTILINE)
    nodes = dict(re.findall(r"^\s*(\d+)\s*[:.]\s*(.+)$", head, re.MULTILINE))
    edges = re.findall(r"\(\s*(\w+)\s*,\s*(\w+)\s*\)", tail)
    return GoldGraph(name, nodes, tuple(edges))


def as_plan(graph: GoldGraph, tool: str = "", inputs: bool = True) -> Rows:
    """A gold graph as a plan: each node calls `tool`, or one of its own, and may read those before it."""
    subtasks = []
    for number, title in graph.nodes.items():
        before = [f"n{source}" for source, target in graph.edges if target == number and source != "START"]
        row: Rows = {"id": f"n{number}", "title": title[:200], "kind": "tool", "depends_on": before}
        row |= {"tools": [tool or f"step_{number}"]}
        subtasks.append(
            row | ({"inputs": {"after": [f"${name}.value" for name in before]}} if inputs else {})
        )
    return {"goal": f"{graph.name} is done", "subtasks": subtasks}


def out_of_order(graph: GoldGraph, events: list[tuple[str, str]]) -> list[str]:
    """What of a run went against its graph. `events`: what happened to which subtask, in order."""
    place = {event: n for n, event in enumerate(events)}
    faults = [
        f"n{number} was {what} {events.count((what, f'n{number}'))} times"
        for number in graph.nodes
        for what in ("started", "finished")
        if events.count((what, f"n{number}")) != 1
    ]
    return faults + [
        f"n{target} was started before n{source} was finished"
        for source, target in graph.edges
        if source in graph.nodes and target in graph.nodes
        if not faults and place["finished", f"n{source}"] > place["started", f"n{target}"]
    ]
