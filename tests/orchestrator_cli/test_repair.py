"""What is set right in a plan without asking its author again, and what is left for them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_cli.plan import Catalogue, NewTool, Plan, Subtask, order
from orchestrator_cli.planning.repair import repaired
from orchestrator_cli.planning.validation import faults
from toolsmith.names import OF_EVERY_AGENT

CATALOGUE = Catalogue(roles=frozenset({"coder", "writer"}), tools=frozenset({"read_file", "list_files"}))


def subtask(name: str, *after: str, **fields: Any) -> Subtask:
    base: dict[str, Any] = {"title": name, "kind": "agent", "role": "coder", "instruction": f"do {name}"}
    return Subtask(id=name, depends_on=after, **(base | fields))


def plan(*subtasks: Subtask, **fields: Any) -> Plan:
    return Plan(goal="g", subtasks=subtasks, **fields)


def mended(made: Plan) -> tuple[Plan, list[str]]:
    """The repaired plan, which then may run, and what was said of it."""
    found, repairs = repaired(made, CATALOGUE)
    assert faults(found, CATALOGUE) == []
    return found, [str(repair) for repair in repairs]


def left(made: Plan) -> list[str]:
    """The faults of a plan that no repair touches."""
    found, repairs = repaired(made, CATALOGUE)
    assert (found, repairs) == (made, ())
    return [str(fault) for fault in faults(found, CATALOGUE)]


@pytest.mark.parametrize("name", OF_EVERY_AGENT)
def test_a_tool_that_every_agent_has_is_named_by_none_and_built_by_no_one(name: str):
    found, repairs = mended(
        plan(subtask("a", tools=("read_file", name)), new_tools=(NewTool(name=name, purpose="does it"),))
    )
    assert (found["a"].tools, found.new_tools, len(repairs)) == (("read_file",), (), 2)
    called = {"kind": "tool", "tools": (name,), "role": None, "instruction": ""}
    assert "agents only" in left(plan(subtask("a", **called)))[0]


def test_an_id_that_is_none_is_spelled_as_one_along_with_everything_that_names_it():
    found, repairs = mended(
        plan(
            subtask("Fetch Data"),
            subtask("sum", "Fetch Data", inputs={"rows": ["$Fetch Data.value.rows"]}),
            subtask("tell", "fetch-data", when="len(Fetch_Data.value) > 0"),
            check="len(fetchData.value) > 0 and sum.value",
        )
    )
    assert [s.id for s in found.subtasks] == ["fetch-data", "sum", "tell"]
    assert found["sum"].depends_on == found["tell"].depends_on == ("fetch-data",)
    assert found["sum"].inputs == {"rows": ["$fetch-data.value.rows"]}
    assert found["tell"].when == "len(fetch_data.value) > 0"
    assert found.check == "len(fetch_data.value) > 0 and sum.value"
    assert repairs == [
        "fetch-data.id: was 'Fetch Data', which is no id",
        "sum.depends_on: in what it refers to, 'Fetch Data' is 'fetch-data'",
        "tell.depends_on: in what it refers to, 'Fetch_Data' is 'fetch-data'",
        "plan.check: reads len(fetch_data.value) > 0 and sum.value",
    ]


def test_two_ids_that_become_the_same_stay_apart():
    found, _ = mended(plan(subtask("A b"), subtask("a-b"), subtask("x", "A b"), subtask("y", "a-b")))
    assert [s.id for s in found.subtasks] == ["a-b-2", "a-b", "x", "y"]
    assert found["x"].depends_on == ("a-b-2",)
    assert found["y"].depends_on == ("a-b",)


def test_an_id_may_be_of_any_text_and_as_long_as_it_likes():
    found, _ = mended(plan(*(subtask(name) for name in ("", "1", "ä/ö", "n" * 90, "n" * 91, "item"))))
    assert [s.id for s in found.subtasks] == ["s", "s-1", "s-2", "n" * 40, "n" * 38 + "-2", "item-2"]


def test_a_reserved_id_is_renamed_with_the_reason():
    found, repairs = mended(plan(subtask("index"), subtask("x", "index")))
    assert [s.id for s in found.subtasks] == ["index-2", "x"]
    assert "reserved" in repairs[0]


def test_a_reference_in_another_spelling_means_the_one_subtask_that_it_fits():
    found, repairs = mended(
        plan(subtask("read_all"), subtask("b", "Read-All", inputs={"x": "$readAll.value"}))
    )
    assert found["b"].depends_on == ("read_all",)
    assert found["b"].inputs == {"x": "$read_all.value"}
    assert repairs == [
        "b.depends_on: in what it refers to, 'Read-All' is 'read_all', 'readAll' is 'read_all'"
    ]


def test_a_reference_that_fits_two_subtasks_is_left():
    assert left(plan(subtask("a-b"), subtask("a_b"), subtask("c", "A B"))) == [
        "c.depends_on: names 'A B', which is no subtask of this plan"
    ]


def test_of_two_with_one_unreferenced_id_the_second_gets_another():
    found, repairs = mended(plan(subtask("a"), subtask("a", title="again"), subtask("a-2")))
    assert [s.id for s in found.subtasks] == ["a", "a-3", "a-2"]
    assert repairs == ["a-3.id: was 'a', as another's, and nothing refers to either"]


@pytest.mark.parametrize(
    "reader",
    [
        subtask("b", "a"),
        subtask("b", inputs={"x": "$a.value"}),
        subtask("b", when="a.value"),
        subtask("b", for_each="$a.value"),
    ],
)
def test_of_two_with_one_referenced_id_neither_is_renamed(reader: Subtask):
    assert "a.id: is used twice: ids are unique" in left(
        plan(subtask("a"), subtask("a", title="again"), reader)
    )


def test_a_subtask_given_twice_word_for_word_is_done_once():
    found, repairs = mended(plan(subtask("a"), subtask("a"), subtask("b", "a")))
    assert [s.id for s in found.subtasks] == ["a", "b"]
    assert repairs == ["a.id: was given twice, word for word; it is done once"]


def test_subtasks_that_are_the_same_once_spelled_are_done_once():
    found, repairs = repaired(plan(subtask("a"), subtask("b", "a"), subtask("a", role="CODER")), CATALOGUE)
    assert [s.id for s in found.subtasks] == ["a", "b"]
    assert [(repair.subtask, repair.field) for repair in repairs] == [("a", "role"), ("a", "id")]


def test_reader_of_a_result_waits_for_it():
    found, repairs = mended(
        plan(
            subtask("rows"),
            subtask("each", for_each="$rows.value", inputs={"row": "$item", "n": "$index"}),
            subtask("sum", inputs={"of": {"deep": ["$each.value"]}}),
            subtask("tell", "sum", when="len(rows.value) > 0", inputs={"rows": "$rows.value"}),
        )
    )
    assert found["each"].depends_on == ("rows",)
    assert found["sum"].depends_on == ("each",)
    # Its inputs could read it without an edge of its own, its condition cannot.
    assert found["tell"].depends_on == ("sum", "rows")
    assert repairs == [
        "each.depends_on: 'rows' was added: its result is read",
        "sum.depends_on: 'each' was added: its result is read",
        "tell.depends_on: 'rows' was added: its result is read",
    ]


def test_an_edge_that_would_close_a_circle_is_left():
    assert left(plan(subtask("a", inputs={"x": "$b.value"}), subtask("b", "a"))) == [
        "a.inputs: '$b.value' needs 'b' in depends_on"
    ]


def test_names_of_tools_and_roles_are_spelled_as_they_are():
    made = plan(
        subtask("a", tools=("Read-File", "countWords"), role="Coder"),
        new_tools=({"name": "count_words", "purpose": "counts"},),
    )
    found, repairs = mended(made)
    assert (found["a"].tools, found["a"].role) == (("read_file", "count_words"), "coder")
    assert repairs == [
        "a.tools: 'Read-File' is 'read_file'",
        "a.tools: 'countWords' is 'count_words'",
        "a.role: 'Coder' is 'coder'",
    ]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (plan(subtask("a", "a")), "a.depends_on: names the subtask itself"),
        (plan(subtask("a", "z")), "a.depends_on: names 'z', which is no subtask of this plan"),
        (plan(subtask("a", role="poet")), "a.role: 'poet' is unknown: there are coder, writer"),
        (plan(subtask("a", "b"), subtask("b", "a")), "goes in a circle"),
        (plan(subtask("a", check="-" * 100_000 + "1")), "a.check: is no expression"),
        (plan(subtask("a", when="1+" * 100_000 + "1")), "a.when: is no expression"),
    ],
)
def test_what_could_mean_two_things_is_left_for_its_author(made: Plan, said: str):
    assert any(said in fault for fault in left(made))


NAMES = st.sampled_from(["a", "b", "A", "a-b", "a_b", "A B", "1", "", "len", "item", "ä"])
TEXTS = NAMES | NAMES.map(lambda name: f"${name}.value") | st.sampled_from(["$item.x", "$a.value.k.0"])


@st.composite
def any_plans(draw: st.DrawFn) -> Plan:
    """Plans as a careless author writes them."""
    return plan(
        *(
            subtask(
                draw(NAMES),
                *draw(st.lists(NAMES, max_size=3)),
                title=draw(st.sampled_from(["one", "two"])),
                inputs=draw(
                    st.dictionaries(st.sampled_from(["x", "y"]), TEXTS | st.lists(TEXTS, max_size=2))
                ),
                when=draw(st.none() | st.sampled_from(["a.value", "len(A.value) > a_b.value", "(("])),
                for_each=draw(st.none() | TEXTS),
                tools=tuple(
                    draw(st.lists(st.sampled_from(["READ_FILE", "new", "New", "no name"]), max_size=2))
                ),
                role=draw(st.sampled_from(["coder", "CODER", "poet", None])),
            )
            for _ in range(draw(st.integers(0, 6)))
        ),
        check=draw(st.none() | st.sampled_from(["a.value", "A.value", "a_b.value and b.value", "x for"])),
    )


@given(any_plans())
def test_no_plan_is_changed_silently_and_what_was_set_right_stays_so(made: Plan):
    found, repairs = repaired(made, CATALOGUE)
    assert (found == made) == (not repairs)
    assert repaired(found, CATALOGUE) == (found, ())


@given(any_plans())
def test_a_repair_only_ever_makes_a_subtask_wait_for_more(made: Plan):
    found, _ = repaired(made, CATALOGUE)
    if len(found.subtasks) == len(made.subtasks):
        pairs = zip(found.subtasks, made.subtasks, strict=True)
        assert all(len(new.depends_on) >= len(old.depends_on) for new, old in pairs)
        assert [s.title for s in found.subtasks] == [s.title for s in made.subtasks]


@given(any_plans())
def test_a_plan_that_may_run_has_an_order(made: Plan):
    found, _ = repaired(made, CATALOGUE)
    if not faults(found, CATALOGUE):
        assert sorted(order(found)) == sorted(s.id for s in found.subtasks)


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("{{a-b.value}}", "$a-b.value"),
        ("{{ a-b.value.rows }}", "$a-b.value.rows"),
        ("${a-b.files}", "$a-b.files"),
        ("${{ a-b.summary }}", "$a-b.summary"),
        ("{a-b.value}", "$a-b.value"),
        ("$a-b.result", "$a-b.value"),
        ("$a-b.output.rows", "$a-b.value.rows"),
        ("$a-b.value[0]", "$a-b.value.0"),
        ("$a-b.value['rows'][-1].name", "$a-b.value.rows.-1.name"),
        (" $a-b.value ", "$a-b.value"),
        ("{{A_B.result}}", "$a-b.value"),
    ],
)
def test_a_reference_in_another_form_is_written_as_one(written: str, right: str):
    found, repairs = mended(plan(subtask("a-b"), subtask("c", inputs={"x": [written]}, for_each=written)))
    assert (found["c"].inputs, found["c"].for_each) == ({"x": [right]}, right)
    assert found["c"].depends_on == ("a-b",)
    assert any(repr(written) in line for line in repairs)


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("{{item}}", "$item"),
        ("${item.url}", "$item.url"),
        ("$item['url']", "$item.url"),
        ("{index}", "$index"),
    ],
)
def test_an_item_in_another_form_is_written_as_one(written: str, right: str):
    found, _ = mended(plan(subtask("a"), subtask("c", inputs={"x": written}, for_each="$a.value")))
    assert found["c"].inputs == {"x": right}


@pytest.mark.parametrize(
    "text", ["$HOME", "$5", "costs $a lot", "{a}", "{{b.value}}", "a.value", "$a.txt now"]
)
def test_text_with_signs_of_references_stays_as_it_is(text: str):
    assert mended(plan(subtask("a"), subtask("c", inputs={"x": text})))[1] == []


def test_a_new_tool_in_the_spelling_of_one_that_exists_is_that_one():
    made = plan(subtask("a", tools=("ReadFile",)), new_tools=({"name": "ReadFile", "purpose": "reads"},))
    found, _ = repaired(made, CATALOGUE)
    assert (found["a"].tools, found.new_tools[0].name) == (("read_file",), "read_file")
    assert [fault.field for fault in faults(found, CATALOGUE)] == ["new_tools"]
