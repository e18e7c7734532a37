"""The gold graphs of WorFBench, run with tools that do nothing: bench_worfbench.py [--large]

Each graph is a plan of calls, one for each node, that read the values of the nodes before them; it is run
whole: validated, on Prefect, with checkouts, commits, journal and log. For each edge, by the run's events:
was the one finished before the other was started? A sample of 40 graphs, with `--large` all 825.

    runs         graphs, those with branches, nodes and edges; and how many ran in the order of their edges
    per run      the whole run, from RunStarted to RunFinished

What is not covered: what the nodes are about; no model is asked.
"""

import argparse
import dataclasses
import json
import random
import statistics
import sys
from pathlib import Path
from typing import Any

from measuring import Seen, place, use_test_parts

SAMPLE = 40
SEED = 7


class Planner:
    """A model that has one plan."""

    def __init__(self, rows: dict[str, Any]) -> None:
        self._plan = json.dumps(rows)

    def complete(self, request: Any, *_: Any, **__: Any) -> Any:
        from orchestrator_cli.models.model import Completion
        from orchestrator_cli.values import Usage

        text = self._plan if request.role == "planner" else "All is done."
        return Completion(text=text, model="fixed", usage=Usage(calls=1))


class StubTools:
    """A registry in which each node's tool is there, and says what it was given."""

    def __init__(self, registry: Any, names: list[str]) -> None:
        self._registry = registry
        self._names = names

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    def has(self, _name: str) -> bool:
        return True

    def host_tools(self, _root: Path, *_: Any) -> dict[str, Any]:
        def step(after: list[Any]) -> dict[str, Any]:
            """Say how far this is from the start.

            Args:
                after: What those before it said.
            """
            return {"depth": 1 + max((one["depth"] for one in after), default=0)}

        return dict.fromkeys(self._names, step)


def run_graph(graph: Any, settings: Any) -> list[Any]:
    """The events of a run of one graph."""
    from datasets import as_plan

    from orchestrator_cli.models.sources import GivenModel
    from orchestrator_cli.orchestrator import run_prompt
    from orchestrator_cli.runtime import open_run
    from orchestrator_cli.views.filelog import FileLog

    seen, rows = Seen(), as_plan(graph)
    tools = [subtask["tools"][0] for subtask in rows["subtasks"]]
    views = [FileLog(settings.workspace / "fileLog.md"), seen]
    with open_run(settings, views, source=GivenModel(Planner(rows))) as run:
        result = run_prompt(rows["goal"], dataclasses.replace(run, registry=StubTools(run.registry, tools)))
    if result.shortfall is not None:
        raise result.shortfall
    return seen.events


def steps(events: list[Any]) -> list[tuple[str, str]]:
    """What happened to which subtask, in order."""
    return [
        ("started" if event.kind == "SubtaskStarted" else "finished", event.data.subtask)
        for event in events
        if event.kind in ("SubtaskStarted", "SubtaskFinished")
    ]


def main() -> int:
    use_test_parts()
    from datasets import GOLD, MISSING, gold_graphs, have, out_of_order

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--large", action="store_true", help="all graphs, which takes some ten minutes")
    options = parser.parse_args(sys.argv[1:])
    if not have("worfbench"):
        print(f"  left out: {MISSING}")
        return 0
    graphs = [graph for file in GOLD for graph in gold_graphs(file)]
    chosen = graphs if options.large else random.Random(SEED).sample(graphs, SAMPLE)
    faults: list[str] = []
    taken: list[float] = []
    with place() as found:
        settings = found.model_copy(update={"max_calls": None})
        for graph in chosen:
            events = run_graph(graph, settings)
            faults += [f"{graph.name}: {fault}" for fault in out_of_order(graph, steps(events))]
            taken.append((events[-1].time - events[0].time).total_seconds())
    branched = sum(len(graph.edges) > len(graph.nodes) + 1 for graph in chosen)
    nodes, edges = sum(len(g.nodes) for g in chosen), sum(len(g.edges) for g in chosen)
    print(f"  {len(chosen)} of {len(graphs)} graphs, {branched} with branches: {nodes} nodes, {edges} edges")
    print(f"  in order: {len(chosen) - len({fault.split(':')[0] for fault in faults})}")
    print(f"  per run: {1000 * statistics.median(taken):.0f} ms (median), {sum(taken):.0f} s in all")
    for fault in faults:
        print(f"  {fault}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
