"""Mermaid and DOT: states, what revisions did, and words of a model that stay words."""

import re

from hypothesis import given
from hypothesis import strategies as st

from orchestrator_cli.durable.foreign import visible
from orchestrator_cli.plan import Plan, Subtask
from orchestrator_cli.views.diagram import dot, mermaid, nodes_of


def subtask(id_: str, *depends_on: str, title: str = "T") -> Subtask:
    return Subtask(id=id_, title=title, kind="agent", depends_on=depends_on)


FIRST = Plan(goal="g", subtasks=(subtask("scan"), subtask("pdf", "scan"), subtask("report", "scan")))
SECOND = Plan(
    goal="g",
    subtasks=(subtask("scan"), subtask("report", "scan", "again"), subtask("again", "scan")),
    version=2,
)
HOSTILE = (
    '"]; click s1 "javascript:alert(1)"',
    "a --> b",
    "%%{init: {'theme': 'dark'}}%%",
    "<img src=x onerror=alert(1)>",
    "`**bold**`",
    "line\nflowchart LR\r\n  click s1 call x()",
    '\\" ]; s1 [URL="http://x"',
    "\\N\\G &lt; &#34;",
    "end; subgraph x",
    "\x1b[31mred\u202egnp.exe",
)


def test_nodes_have_states_and_what_revisions_did() -> None:
    nodes = nodes_of([FIRST, SECOND], {"scan": "failed"})
    assert [(n.id, n.look, n.change, n.version) for n in nodes] == [
        ("scan", "failed", "", 1),
        ("report", "pending", "changed", 2),
        ("again", "pending", "new", 2),
        ("pdf", "removed", "removed", 2),
    ]


def test_a_subtask_that_is_added_again_is_new() -> None:
    nodes = nodes_of([FIRST, SECOND, FIRST.model_copy(update={"version": 3})], {})
    assert [(n.id, n.change, n.version) for n in nodes if n.id in ("pdf", "again")] == [
        ("pdf", "new", 3),
        ("again", "removed", 3),
    ]


def test_mermaid_has_a_node_per_subtask_and_an_arrow_per_dependency() -> None:
    assert mermaid(nodes_of([FIRST], {"scan": "done"})).splitlines()[:6] == [
        "flowchart TD",
        '  s1["✓ scan: T"]:::done',
        '  s2["○ pdf: T"]:::pending',
        '  s3["○ report: T"]:::pending',
        "  s1 --> s2",
        "  s1 --> s3",
    ]


def test_dot_has_the_same_graph() -> None:
    lines = dot(nodes_of([FIRST, SECOND], {})).splitlines()
    assert [line.strip() for line in lines if "->" in line] == [
        "s1 -> s2;",
        "s3 -> s2;",
        "s1 -> s3;",
        "s1 -> s4;",
    ]
    assert [line for line in lines if "removed in version 2" in line and "dashed" in line]


titles = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30))


@given(st.lists(titles, min_size=1, max_size=4))
def test_no_title_leaves_its_label(found: list[str]) -> None:
    plan = Plan(goal="g", subtasks=tuple(subtask(f"t{n}", title=title) for n, title in enumerate(found)))
    nodes = nodes_of([plan], {})
    drawn = mermaid(nodes).split("\n")
    assert len(drawn) == len(found) + 3
    for line in drawn[1 : len(found) + 1]:
        label = re.fullmatch(r'  s\d+\["○ ([^"]*)"\]:::pending', line)
        assert label, line
        assert all(c.isalnum() or c in "_ .,:()-" for c in re.sub(r"#\d+;", "", label[1])), line
    drawn = dot(nodes).split("\n")
    assert len(drawn) == len(found) + 5
    for line in drawn[3 : len(found) + 3]:
        assert re.fullmatch(r'  s\d+ \[label="([^"\\]|\\["\\])*", style="[a-z,]+", [^\\]*\];', line), line
        assert not re.search(r"&(?!amp;)", line)
        assert visible(line) == line
