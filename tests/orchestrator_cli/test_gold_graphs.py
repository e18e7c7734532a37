"""Task graphs that people made: each is run whole, in the order of its edges, with tools that change nothing.

A few are written here and always run. A sample of a public set runs where that is to be had; all of it is
run by `benchmarks/bench_worfbench.py`.
"""

import json
import random

import pytest
from command import Orch
from datasets import GOLD, MISSING, GoldGraph, as_plan, gold_graph, gold_graphs, have, out_of_order
from endpoint import Endpoint
from scripted_model import Cast

BY_HAND = {
    "one after the other": "(START,1) (1,2) (2,3) (3,END)",
    "none waits for another": "(START,1) (START,2) (START,3) (1,END) (2,END) (3,END)",
    "a diamond with a short cut": "(START,1) (1,2) (1,3) (2,4) (3,4) (1,4) (4,END)",
    "two that meet, and one beside them": "(START,1) (START,2) (START,4) (1,3) (2,3) (3,END) (4,END)",
    "two layers, each node after each": "(START,1) (START,2) (1,3) (1,4) (2,3) (2,4) (3,5) (4,5) (5,END)",
}


def written(name: str) -> GoldGraph:
    numbers = sorted({sign for sign in BY_HAND[name] if sign.isdigit()})
    nodes = "\n".join(f"{number}: Do part {number}." for number in numbers)
    return gold_graph(name, f"Node:\n{nodes}\nEdge: {BY_HAND[name]}")


def sampled() -> list[GoldGraph]:
    if not have("worfbench"):
        return []
    large = [graph for file in GOLD for graph in gold_graphs(file) if len(graph.edges) > 5]
    return random.Random(7).sample(large, 3)


def steps_of(orch: Orch, endpoint: Endpoint, graph: GoldGraph) -> list[tuple[str, str]]:
    """What happened to which subtask in a run of the graph, in order."""
    endpoint.reply = Cast(planner=[json.dumps(as_plan(graph, "list_files", inputs=False))])
    done = orch("ask", "-q", f"Do {graph.name}.")
    assert done.code == 0, done.err
    what = {"SubtaskStarted": "started", "SubtaskFinished": "finished"}
    return [(what[row["kind"]], row["subtask"]) for row in orch.events() if row["kind"] in what]


@pytest.mark.parametrize("name", BY_HAND)
def test_a_graph_is_run_in_the_order_of_its_edges(orch: Orch, endpoint: Endpoint, name: str):
    graph = written(name)
    assert out_of_order(graph, steps_of(orch, endpoint, graph)) == []


@pytest.mark.skipif(not have("worfbench"), reason=MISSING)
def test_gold_graphs_are_run_in_the_order_of_their_edges(orch: Orch, endpoint: Endpoint):
    for graph in sampled():
        assert out_of_order(graph, steps_of(orch, endpoint, graph)) == [], graph.name


def test_an_order_that_goes_against_an_edge_is_noticed():
    graph = written("one after the other")
    good = [(what, f"n{n}") for n in (1, 2, 3) for what in ("started", "finished")]
    assert out_of_order(graph, good) == []
    assert out_of_order(graph, [good[0], good[2], good[1], *good[3:]]) == [
        "n2 was started before n1 was finished"
    ]
    assert out_of_order(graph, good[:-1]) == ["n3 was finished 0 times"]
