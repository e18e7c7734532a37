"""Plans of weaker models: each may run, is repaired and reported, or is refused with all of its faults.

The hand-written ones make the same kinds of slips as the recorded ones do, and are always there; the
recorded ones are public sets that are not part of this repository.
"""

import sys
from collections import Counter
from typing import Any

import pytest
from datasets import MISSING, RECORDED, as_function, as_rows, have, recorded_plans, recorded_tools

from orchestrator_cli.plan import Catalogue, Plan, order
from orchestrator_cli.planning.structured_output import Unusable, read_plan

TOOLS = frozenset({"image_captioning", "translation", "text_to_speech", "object_detection", "summarization"})


def outcome(rows: dict[str, Any], catalogue: Catalogue) -> tuple[str, list[str]]:
    """What becomes of a plan, checked for silence: what changed was reported, what may run has an order."""
    try:
        plan, repairs = read_plan(rows, catalogue)
    except Unusable as exc:
        return "refused", exc.faults
    assert sorted(order(plan)) == sorted(s.id for s in plan.subtasks)
    assert (plan == Plan.model_validate(rows)) == (not repairs)
    return ("repaired" if repairs else "accepted"), [str(repair) for repair in repairs]


def recorded(nodes: list[tuple[str, list[Any]]], *links: tuple[str, str]) -> dict[str, Any]:
    return {
        "user_request": "Do it.",
        "task_nodes": [{"task": task, "arguments": arguments} for task, arguments in nodes],
        "task_links": [{"source": source, "target": target} for source, target in links],
    }


BY_HAND = {
    "names of functions already": (
        recorded([("translation", ["hello"])]),
        "accepted",
        [],
    ),
    "names of tools as people write them": (
        recorded(
            [("Image Captioning", ["a.jpg"]), ("Text-to-Speech", ["<node-0>"])],
            ("Image Captioning", "Text-to-Speech"),
        ),
        "repaired",
        ["image-captioning.tools: 'Image Captioning' is 'image_captioning'"],
    ),
    "a result is read and no link says so": (
        recorded([("Translation", ["hello"]), ("Summarization", ["<node-0>"])]),
        "repaired",
        ["summarization.depends_on: 'translation' was added: its result is read"],
    ),
    "a result is read before it is made": (
        recorded([("Translation", ["<node-1>"]), ("Summarization", ["text"])]),
        "repaired",
        ["translation.depends_on: 'summarization' was added: its result is read"],
    ),
    "the same tool twice, and nothing refers to either": (
        recorded([("Translation", ["hello"]), ("Translation", ["goodbye"])]),
        "repaired",
        ["translation-2.id: was 'translation', as another's, and nothing refers to either"],
    ),
    "the same tool twice, and a link that fits both": (
        recorded(
            [("Object Detection", ["a.jpg"]), ("Object Detection", ["b.jpg"]), ("Summarization", ["text"])],
            ("Object Detection", "Summarization"),
        ),
        "refused",
        ["object-detection.id: is used twice: ids are unique"],
    ),
    "the very same call twice": (
        recorded(
            [("Translation", ["hello"]), ("Translation", ["hello"]), ("Summarization", ["<node-1>"])],
            ("Translation", "Summarization"),
        ),
        "repaired",
        ["translation.id: was given twice, word for word; it is done once"],
    ),
    "a missing tool, by a name that no function can have": (
        recorded([("Image Segmentation", ["a.jpg"])]),
        "repaired",
        ["image-segmentation.tools: 'Image Segmentation' is 'image_segmentation'"],
    ),
    "a link to a tool that is no node": (
        recorded([("Translation", ["hello"])], ("Speech Recognition", "Translation")),
        "refused",
        ["translation.depends_on: names 'Speech Recognition', which is no subtask of this plan"],
    ),
    "a reference to a node that is not there": (
        recorded([("Translation", ["<node-7>"])]),
        "refused",
        ["translation.inputs: '$node-7.value' needs 'node-7' in depends_on"],
    ),
    "a node that reads itself": (
        recorded([("Translation", ["<node-0>"])], ("Translation", "Translation")),
        "refused",
        ["translation.depends_on: names the subtask itself"],
    ),
    "a circle": (
        recorded(
            [("Translation", ["<node-1>"]), ("Summarization", ["<node-0>"])],
            ("Translation", "Summarization"),
            ("Summarization", "Translation"),
        ),
        "refused",
        ["depends_on: goes in a circle"],
    ),
    "no nodes": (recorded([]), "refused", ["plan.subtasks: is empty: give at least one subtask"]),
    "several faults at once": (
        recorded([("Translation", ["<node-7>"]), ("Summarization", [])], ("Nobody", "Summarization")),
        "refused",
        ["'node-7' in depends_on", "names 'Nobody', which is no subtask"],
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_plan_with_a_slip_is_set_right_or_refused_with_every_fault(name: str):
    row, what, said = BY_HAND[name]
    found, lines = outcome(as_rows(row), Catalogue(roles=frozenset(), tools=TOOLS))
    assert found == what
    assert [line for line in said if not any(line in repairs for repairs in lines)] == []


def test_values_of_a_wrong_form_do_not_hide_the_other_faults():
    rows = {
        "subtasks": [
            {"id": "a", "title": "A", "kind": "tool", "tools": ["translation"], "retries": 99},
            {"id": "b", "kind": "tol", "tools": [], "depends_on": ["nobody"]},
            {"id": "c", "title": "C", "kind": "tool", "tools": [], "timeout_s": "soon"},
        ]
    }
    what, faults = outcome(rows, Catalogue(roles=frozenset(), tools=TOOLS))
    assert what == "refused"
    fields = [fault.split(":")[0].removeprefix("subtasks.") for fault in faults]
    assert sorted(fields) == [
        "a.retries", "b.depends_on", "b.kind", "b.title", "c.timeout_s", "c.tools", "goal",
    ]  # fmt: skip


@pytest.mark.skipif(not have("recorded_plans"), reason=MISSING)
@pytest.mark.parametrize("file", RECORDED)
def test_every_recorded_plan_is_accepted_repaired_or_refused(file: str, capsys: pytest.CaptureFixture[str]):
    catalogue = Catalogue(roles=frozenset(), tools=recorded_tools(file))
    counts: Counter[str] = Counter()
    why: Counter[str] = Counter()
    for plan in recorded_plans(file):
        what, lines = outcome(plan.rows, catalogue)
        assert lines or what == "accepted"
        counts[what] += 1
        why.update({f"{what}: {kind_of(line)}" for line in lines})
    with capsys.disabled():
        sys.stdout.write(f"\n{file}: {sum(counts.values())} plans, {dict(counts)}\n")
        sys.stdout.writelines(f"  {count:>4} {kind}\n" for kind, count in why.most_common())
    assert counts["repaired"] > counts["refused"]


def kind_of(line: str) -> str:
    """A repair or fault without the names in it."""
    place, _, message = line.partition(": ")
    words = [word for word in message.split() if not word.startswith(("'", "$", "(")) and "'" not in word]
    return f"{place.split('.')[-1]}: {' '.join(words)[:60]}"


def test_a_tools_name_becomes_one_that_functions_have():
    assert as_function("Text-to-Speech (new)") == "text_to_speech_new"


def test_a_reference_inside_an_argument_is_ours():
    rows = as_rows(recorded([("A", [{"name": "x", "value": "<node-0>"}])]))
    assert rows["subtasks"][0]["inputs"] == {"argument_0": {"name": "x", "value": "$A.value"}}
