"""The rules of a plan: what is wrong with it, what may start, what references mean, how patches apply."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_cli.plan import (
    Catalogue,
    Patch,
    Plan,
    Result,
    State,
    Subtask,
    ancestors,
    descendants,
    needs,
    order,
    ready,
    references,
    resolve,
)
from orchestrator_cli.planning.patching import PatchRefused, apply, repaired_patch
from orchestrator_cli.planning.validation import faults

CATALOGUE = Catalogue(roles=frozenset({"coder"}), tools=frozenset({"read_file"}))


def subtask(name: str, *after: str, **fields: Any) -> Subtask:
    base: dict[str, Any] = {"title": name, "kind": "agent", "role": "coder", "instruction": "do it"}
    return Subtask(id=name, depends_on=after, **(base | fields))


def plan(*subtasks: Subtask, **fields: Any) -> Plan:
    return Plan(goal="g", subtasks=subtasks, **fields)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans without loops: each subtask depends on some of those before it; listed in any order."""
    count = draw(st.integers(1, 8))
    rows = [
        subtask(f"s{n}", *draw(st.lists(st.sampled_from([f"s{i}" for i in range(n)]), unique=True)))
        if n
        else subtask("s0")
        for n in range(count)
    ]
    return plan(*draw(st.permutations(rows)))


@given(plans())
def test_a_plan_without_circles_has_no_faults_and_an_order(made: Plan) -> None:
    assert faults(made, CATALOGUE) == []
    place = {name: n for n, name in enumerate(order(made))}
    assert set(place) == made.ids
    assert all(place[d] < place[s.id] for s in made.subtasks for d in s.depends_on)


@given(plans(), st.data())
def test_closing_a_circle_is_one_named_fault(made: Plan, data: st.DataObject) -> None:
    edges = [(d, s.id) for s in made.subtasks for d in ancestors(made, s.id)]
    if not edges:
        return
    first, last = data.draw(st.sampled_from(edges))
    rows = (
        s.model_copy(update={"depends_on": (*s.depends_on, last)}) if s.id == first else s
        for s in made.subtasks
    )
    found = faults(plan(*rows), CATALOGUE)
    assert [fault.field for fault in found] == ["depends_on"]
    assert "goes in a circle" in found[0].message


@given(plans())
def test_working_off_what_is_ready_does_every_subtask_once_after_its_dependencies(made: Plan) -> None:
    states: dict[str, State] = {}
    while found := ready(made, states):
        for one in found:
            assert all(states[d] == "done" for d in one.depends_on)
            assert one.id not in states
        states |= {one.id: "done" for one in found}
    assert set(states) == made.ids


@given(plans(), st.data())
def test_ancestors_and_descendants_are_each_others_reverse(made: Plan, data: st.DataObject) -> None:
    one = data.draw(st.sampled_from(sorted(made.ids)))
    assert {name for name in made.ids if one in ancestors(made, name)} == descendants(made, [one])
    assert one not in ancestors(made, one) | descendants(made, [one])


def test_what_waits_for_a_failure_or_a_revision_is_not_ready() -> None:
    made = plan(subtask("a"), subtask("b", "a"), subtask("c"), subtask("d", "e"), subtask("e"))
    assert [s.id for s in ready(made, {"a": "failed"}, frozenset({"c"}))] == ["e"]
    assert [s.id for s in ready(made, {"a": "skipped", "c": "running", "e": "done"})] == ["b", "d"]


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v))
)
def test_a_value_without_references_resolves_to_itself(value: Any) -> None:
    if not list(references(value)):
        assert resolve(value, {}) == value


RESULT = Result(
    subtask="a", attempt=1, plan_version=1, value={"xs": [1, {"y": 2}]}, summary="s", files=("f",)
)


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ("$a.value", {"xs": [1, {"y": 2}]}),
        ("$a.value.xs.1.y", 2),
        ("$a.summary", "s"),
        ("$a.files", ["f"]),
        ("$a.files.0", "f"),
        ("$b.value.any.thing", None),
        ("price: $a.value", "price: $a.value"),
        ("$a.nothing", "$a.nothing"),
        ("$A.value", "$A.value"),
    ],
)
def test_a_reference_is_replaced_as_a_whole_and_anything_else_is_text(reference: str, value: Any) -> None:
    assert resolve({"deep": [reference]}, {"a": RESULT}) == {"deep": [value]}


@pytest.mark.parametrize("reference", ["$a.value.no", "$a.value.xs.9", "$a.value.xs.y", "$a.summary.0.x"])
def test_a_reference_to_nothing_names_itself(reference: str) -> None:
    with pytest.raises(KeyError) as raised:
        resolve(reference, {"a": RESULT})
    assert raised.value.args == (reference,)


def test_missing_tools_are_needs_with_the_purpose_of_the_plan() -> None:
    made = plan(subtask("a", tools=("new", "read_file")), new_tools=({"name": "new", "purpose": "counts"},))
    assert [(n.name, n.purpose) for n in needs(made, {"read_file"})] == [("new", "counts")]


@pytest.mark.parametrize(
    ("packages", "count"),
    [
        (["markdown>=3.6", "Pillow"], 0),
        (["https://a.example/x.whl"], 1),
        (["-r list.txt", "../x", "markdown[extra]"], 3),
        (["pillow", "Pillow>=11"], 1),
        ([f"p{n}" for n in range(11)], 1),
    ],
)
def test_a_plan_requests_packages_by_name_alone(packages: list[str], count: int) -> None:
    found = faults(plan(subtask("a", packages=tuple(packages))), CATALOGUE)
    assert [fault.field for fault in found] == ["packages"] * count


def test_only_an_agent_is_given_packages() -> None:
    one = subtask("a", kind="tool", tools=("read_file",), packages=("pillow",))
    assert [fault.field for fault in faults(plan(one), CATALOGUE)] == ["packages"]


# --- calls and references, before anything runs

READ_FILE: dict[str, Any] = {
    "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}, "rows": {"type": "array"}},
    "required": ["path"],
    "additionalProperties": False,
}
CALLS = CATALOGUE.model_copy(
    update={
        "tool_inputs": {"read_file": READ_FILE},
        "processes": frozenset({"report"}),
        "process_inputs": {"report": READ_FILE},
    }
)


def call(inputs: dict[str, Any], *, process: bool = False, **fields: Any) -> list[tuple[str, str]]:
    """The subtask and field of each fault of a call that comes after the subtasks a and home."""
    kind: dict[str, Any] = {"kind": "process", "process": "report"} if process else {"kind": "tool"}
    kind |= {} if process else {"tools": ("read_file",)}
    made = plan(subtask("a"), subtask("home"), subtask("c", "a", "home", inputs=inputs, **(kind | fields)))
    return [(fault.subtask, fault.field) for fault in faults(made, CALLS)]


@pytest.mark.parametrize("process", [False, True])
@pytest.mark.parametrize(
    ("inputs", "count"),
    [
        ({"path": "a.txt"}, 0),
        ({"path": "a.txt", "limit": 3.0, "rows": ["$a.value"]}, 0),
        ({"path": "$a.value", "limit": "$a.value.n", "rows": "$a.files"}, 0),
        ({}, 1),
        ({"file": "a.txt"}, 2),
        ({"path": 7, "limit": "3", "rows": "all"}, 3),
        ({"path": None}, 1),
        ({"path": "a.txt", "limit": True}, 1),
    ],
)
def test_a_call_is_checked_against_what_is_called(inputs: dict[str, Any], count: int, process: bool) -> None:
    assert call(inputs, process=process) == [("c", "inputs")] * count


def test_the_item_of_a_map_may_be_any_argument() -> None:
    assert call({"path": "$item", "limit": "$index"}, for_each="$a.value") == []
    assert call({"path": "$item", "limit": "$index"}) == [("c", "inputs")] * 2  # and no list


def test_a_schema_of_a_server_is_read_and_never_run() -> None:
    schema: dict[str, Any] = {
        "properties": {
            "path": {"$ref": "http://a.example/x"},
            "n": 7,
            "s": {"anyOf": "x", "pattern": "(a+)+$"},
        },
        "required": "path",
    }
    known = CALLS.model_copy(update={"tool_inputs": {"read_file": schema}})
    one = subtask("c", kind="tool", tools=("read_file",), inputs={"path": 7, "n": [], "more": "a" * 99 + "!"})
    assert faults(plan(one), known) == []


HONEST = [
    "$5",
    "$HOME",
    "costs $a lot",
    "costs $a.b",
    "see $a.txt",
    "costs $x.value",
    "{a.value}s",
    "costs $a1.value",
    "a.value",
]
WRONG = [
    "text $a.value text",
    "$a",
    "{{a}}",
    "$a.rows",
    "at {{ a.value }}.",
    "x ${a.result[0]}",
    "$a.value$a.value",
]


@pytest.mark.parametrize("text", HONEST)
def test_a_dollar_sign_that_refers_to_nothing_is_text(text: str) -> None:
    assert call({"path": text}) == []
    assert faults(plan(subtask("a"), subtask("b", "a", instruction=text, judge=text)), CATALOGUE) == []


@pytest.mark.parametrize("text", WRONG)
def test_a_reference_that_would_be_passed_on_as_text_is_a_fault(text: str) -> None:
    assert call({"path": text}) == [("c", "inputs")]
    assert call({"path": "p", "rows": [{"deep": text}]}) == [("c", "inputs")]


@pytest.mark.parametrize(
    "text", ["https://a.example/$item", "{{item.url}} and", "page $index", "$item.value.", "$item s"]
)
def test_an_item_within_a_text_is_a_fault_of_a_map_only(text: str) -> None:
    assert call({"path": text}, for_each="$a.value") == [("c", "inputs")]
    assert call({"path": text}) == []


@pytest.mark.parametrize("field", ["instruction", "judge"])
@pytest.mark.parametrize("text", ["Read $a.value.", "Read {{ a.value.rows }}."])
def test_a_text_for_a_model_takes_no_references(field: str, text: str) -> None:
    made = plan(subtask("a"), subtask("b", "a", **{field: text}))
    assert [(fault.subtask, fault.field) for fault in faults(made, CATALOGUE)] == [("b", field)]


def test_a_new_tool_with_the_name_of_one_that_exists_is_a_fault() -> None:
    again = {"name": "read_file", "purpose": "reads a file, from a line on"}
    found = faults(plan(subtask("a"), new_tools=(again,)), CATALOGUE)
    assert [(fault.subtask, fault.field) for fault in found] == [("plan", "new_tools")]
    assert "extends" in found[0].message


def test_a_patch_is_not_refused_for_what_is_past() -> None:
    built = CALLS.model_copy(update={"tools": frozenset({"read_file", "count"})})
    started = subtask("c", kind="tool", tools=("read_file",), inputs={"file": "a.txt"})
    made = plan(started, subtask("d"), new_tools=({"name": "count", "purpose": "counts"},))
    change = Patch(base_version=1, reason="r", replace=(subtask("d", title="new"),))
    assert apply(made, change, {"c": "failed"}, built)["d"].title == "new"
    with pytest.raises(PatchRefused):
        apply(made, change, {}, built)


# --- patches


@given(plans(), st.data())
def test_a_patch_of_pending_subtasks_raises_the_version_and_leaves_the_rest(
    made: Plan, data: st.DataObject
) -> None:
    done = data.draw(st.integers(0, len(made.subtasks)))
    states: dict[str, State] = dict.fromkeys(order(made)[:done], "done")
    patched = apply(
        made, Patch(base_version=1, reason="r", add=(subtask("new", *states),)), states, CATALOGUE
    )
    assert patched.version == 2
    assert patched.subtasks[:-1] == made.subtasks
    assert faults(patched, CATALOGUE) == []


MADE = plan(subtask("a"), subtask("b", "a"), subtask("c", "b"))


@pytest.mark.parametrize(
    ("patch", "states", "said"),
    [
        ({"base_version": 7, "add": [subtask("x")]}, {}, "the plan is at version 1"),
        ({"replace": [subtask("a")]}, {"a": "running"}, "only pending subtasks can change"),
        ({"remove": ["a"]}, {"a": "done"}, "only pending subtasks can change"),
        ({"remove": ["z"]}, {}, "is no subtask"),
        ({"add": [subtask("a")]}, {}, "exists already"),
        ({"remove": ["b"]}, {}, "'b', which is no subtask"),
        ({"replace": [subtask("b", "a", "c")]}, {}, "goes in a circle"),
        ({"replace": [subtask("b", "a", title="again")]}, {"a": "failed"}, "which failed"),
        ({"add": [subtask("x", role="poet")]}, {}, "'poet' is unknown"),
    ],
)
def test_a_patch_that_cannot_be_applied_is_refused_with_the_reason(
    patch: dict[str, Any], states: dict[str, State], said: str
) -> None:
    with pytest.raises(PatchRefused, match=said):
        apply(MADE, Patch(**({"base_version": 1, "reason": "r"} | patch)), states, CATALOGUE)


def test_subtask_can_be_removed_and_added_in_one_patch() -> None:
    patch = Patch(base_version=1, reason="r", remove=("c",), add=(subtask("c", "a"),))
    assert apply(MADE, patch, {}, CATALOGUE)["c"].depends_on == ("a",)


# --- going back


def patched(made: Plan, *versions: Plan, states: dict[str, State], **changes: Any) -> Plan:
    """The plan after a patch, that may not restore what any of the versions was."""
    patch = Patch(base_version=made.version, reason="r", **changes)
    return apply(made, patch, states, CATALOGUE, (*versions, made))


def test_a_patch_that_restores_an_earlier_pending_part_is_refused_with_the_version() -> None:
    other = patched(MADE, states={"a": "done"}, replace=(subtask("b", "a", title="another way"),))
    with pytest.raises(PatchRefused, match="as it was in version 1"):
        patched(other, MADE, states={"a": "done"}, replace=(subtask("b", "a", why="it was better"),))


def test_what_has_started_since_does_not_hide_that_a_patch_goes_back() -> None:
    added = patched(MADE, states={}, add=(subtask("x"),))
    with pytest.raises(PatchRefused, match="as it was in version 1"):
        patched(added, MADE, states={"a": "done", "b": "failed"}, remove=("x",))


def test_a_patch_that_changes_nothing_is_refused_and_one_that_leaves_out_the_rest_is_not() -> None:
    with pytest.raises(PatchRefused, match="as it was in version 1"):
        patched(MADE, states={"a": "done"}, replace=(subtask("c", "b"),))
    assert patched(MADE, states={"a": "done"}, remove=("b", "c")).ids == {"a"}


@given(plans(), st.data())
def test_a_change_and_its_reverse_are_never_both_applied(made: Plan, data: st.DataObject) -> None:
    done = data.draw(st.integers(0, len(made.subtasks) - 1))
    states: dict[str, State] = dict.fromkeys(order(made)[:done], "done")
    name = data.draw(st.sampled_from([s.id for s in made.subtasks if s.id not in states]))
    changed = patched(made, states=states, replace=(made[name].model_copy(update={"title": "new"}),))
    with pytest.raises(PatchRefused, match="as it was in version 1"):
        patched(changed, made, states=states, replace=(made[name],))


# --- slips in patches


def test_the_slips_of_a_patch_are_set_right_in_what_it_brings() -> None:
    patch = Patch(
        base_version=1,
        reason="r",
        add=(subtask("New One", "A", tools=("READ-file",)), subtask("last", inputs={"x": "$New One.value"})),
        replace=(subtask("c", inputs={"x": "$b.value"}),),
    )
    mended, repairs = repaired_patch(MADE, patch, CATALOGUE)
    assert [s.id for s in mended.add] == ["new-one", "last"]
    assert mended.add[0].depends_on == ("a",)
    assert mended.add[0].tools == ("read_file",)
    assert mended.add[1].depends_on == ("new-one",)
    assert mended.replace[0].depends_on == ("b",)
    assert len(repairs) == 6
    assert apply(MADE, mended, {}, CATALOGUE).ids == {"a", "b", "c", "new-one", "last"}


@given(plans(), plans())
def test_a_repair_of_a_patch_touches_nothing_else(made: Plan, other: Plan) -> None:
    names = {s.id: f"{s.id} again" for s in other.subtasks}
    add = tuple(
        s.model_copy(update={"id": names[s.id], "depends_on": tuple(names[d] for d in s.depends_on)})
        for s in other.subtasks
    )
    patch, repairs = repaired_patch(made, Patch(base_version=1, reason="r", add=add), CATALOGUE)
    assert repairs
    assert apply(made, patch, {}, CATALOGUE).subtasks[: len(made.subtasks)] == made.subtasks
