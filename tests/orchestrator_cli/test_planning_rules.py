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
