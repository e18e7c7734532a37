"""Questions to a person who is not at a terminal: the run pauses, and goes on with the answer."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from command import Done, Orch
from endpoint import Endpoint, call
from engine import Engine
from scripted_model import Cast, caller, code, coder, decided, patch, plan, tool_call
from toolsmith_replies import CASED, SPECIFIED, WRITTEN

FINISH = call("final_answer", {"answer": "made"})
COLOURS = {"enum": ["red", "green"]}


def human(name: str = "choose", **fields: Any) -> dict[str, Any]:
    base = {"id": name, "title": "Choose", "kind": "human", "instruction": "Which colour?"}
    return base | fields


def writes(name: str, after: list[str] | None = None, **fields: Any) -> dict[str, Any]:
    return tool_call(name, "write_file", after or [], path=f"{name}.txt", content="made") | fields


def run_of(orch: Orch) -> str:
    return orch.journal().parent.name


def asked(orch: Orch) -> list[dict[str, Any]]:
    return orch.events("ApprovalAsked")


def flow_state(engine: Engine, orch: Orch) -> tuple[str, ...]:
    return engine.end_states(run_of(orch))


def test_a_run_that_only_a_person_can_bring_on_pauses_when_all_else_is_done_and_goes_on_with_the_answer(
    orch: Orch, endpoint: Endpoint, engine: Engine
) -> None:
    use = caller("use", ["choose"], inputs={"colour": "$choose.value"})
    endpoint.reply = Cast(
        planner=[plan(human(result=COLOURS), writes("other"), use)], agents={"Do use": [FINISH]}
    )
    done = orch("ask", "--json", "Paint it.")
    assert (done.code, done.envelope["outcome"]) == (6, "paused")
    assert done.envelope["states"] == {"choose": "waiting", "other": "done", "use": "pending"}
    (question,) = done.envelope["approvals"]
    assert question["question"] == "Which colour?"
    assert flow_state(engine, orch) == ("PAUSED",)
    assert orch.events("RunPaused")[0]["approvals"] == [question["id"]]
    assert f"orch approve {run_of(orch)}" in done.envelope["error"]["remedy"]
    assert f"question `{question['id']}`" in orch.log

    listed = orch("approve", "last")
    assert f"{question['id']}  Which colour? [1-2]" in listed.err
    for text in (listed.err, done.envelope["error"]["remedy"]):
        assert "--answer TEXT" in text
        assert "--yes" not in text  # which it would refuse
    wrong = orch("approve", "last", "--answer", "blue")
    assert (wrong.code, "one of the choices" in wrong.error) == (2, True)
    mistaken = orch("approve", "last", "--yes")
    assert (mistaken.code, "wants an answer" in mistaken.error) == (2, True)

    approved = orch("approve", "last", question["id"], "--answer", "2", "--json")
    assert (approved.code, approved.envelope["outcome"]) == (0, "completed")
    assert "green" in endpoint.of("agent")[0].text
    assert flow_state(engine, orch) == ("COMPLETED",)
    assert [row["subtask"] for row in orch.events("SubtaskFinished")] == ["other", "choose", "use"]
    assert "answered, by the user" in orch.log
    assert list((orch.journal().parent / "inbox").iterdir()) == []


def test_a_subtask_that_is_not_allowed_fails_with_what_the_person_said(
    orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.reply = Cast(
        planner=[plan(writes("danger", approve=True))],
        reviser=[patch("Another name.", add=[writes("safe")])],
    )
    assert orch("ask", "Write it.").code == 6
    done = orch("approve", "last", "--no", "--because", "the name frightens me", "--json")
    assert done.envelope["states"] == {"danger": "failed", "safe": "done"}
    text = endpoint.of("reviser")[0].text
    assert "the user did not allow it: the name frightens me" in text
    trusted = re.sub(r"<untrusted .*?</untrusted>", "", text, flags=re.DOTALL)
    assert "danger: no, because the name frightens me" in trusted
    assert orch.files() == ["safe.txt"]


def test_a_question_that_a_patch_makes_needless_is_withdrawn(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[plan(human(), tool_call("fetch", "read_file", path="gone.txt"))],
        reviser=[patch("It does without.", add=[writes("other")], remove=["choose"])],
    )
    done = orch("ask", "--json", "Paint it.")
    assert (done.code, done.envelope["outcome"]) == (0, "completed")
    assert done.envelope["states"] == {"fetch": "failed", "other": "done"}
    assert orch("approve", "last").err == f"Run {run_of(orch)} asks nothing.\n"


def test_the_run_goes_on_when_the_last_of_several_questions_is_answered(
    orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.reply = Cast(planner=[plan(human(), human("again"), writes("one", approve=True))])
    assert orch("ask", "Paint it.").code == 6
    first, second, _ = asked(orch)
    several = orch("approve", "last", "--answer", "red")
    assert (several.code, "asks 3 things" in several.error) == (2, True)
    answered = orch("approve", "last", "--yes")
    assert (answered.code, f"Still open: {first['id']}, {second['id']}." in answered.err) == (0, True)
    assert "Still open" in orch("approve", "last", first["id"], "--answer", "red").err
    done = orch("approve", "last", "--answer", "green", "--json")
    assert (done.code, done.envelope["outcome"]) == (0, "completed")
    values = {row["subject"]: row["id"] for row in asked(orch)}
    given = {row["id"]: row["value"] for row in orch.events("ApprovalGiven")}
    assert (given[values["choose"]], given[values["again"]]) == ("red", "green")


def test_with_y_what_asks_for_yes_is_answered_yes(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[plan(writes("one", approve=True))])
    done = orch("ask", "-y", "--approve", "all", "--json", "Write it.")
    assert done.code == 0
    assert orch.files() == ["one.txt"]
    assert {row["what"] for row in asked(orch)} == {"plan", "subtask", "writes"}
    assert {row["by"] for row in orch.events("ApprovalGiven")} == {"flag"}


def test_unknown_kinds_are_named_with_all_there_are(orch: Orch) -> None:
    done = orch("ask", "--approve", "plans,writes", "Write it.")
    assert done.code == 2
    assert "'plans'" in done.error
    assert "plan, tools, network, secrets, packages, writes, executes, effects, all or none" in done.error


# --- the plan


def editor(folder: Path, program: str) -> str:
    """An editor that is a program of Python: it has the text in `text` and saves what is in it then."""
    script = folder / f"editor-{len(list(folder.glob('editor-*')))}.py"
    script.write_text(
        "import sys, pathlib\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "text = path.read_text()\n"
        f"{program}\n"
        "path.write_text(text)\n"
    )
    return f"{sys.executable} {script}"


def paused_with_a_plan(orch: Orch, endpoint: Endpoint, **cast: Any) -> Done:
    endpoint.reply = Cast(planner=[plan(writes("one"), writes("two"))], **cast)
    done = orch("ask", "--approve", "plan", "Write two files.")
    assert done.code == 6
    assert orch.files() == []
    return done


def test_a_plan_that_is_to_be_approved_is_kept_and_runs_when_it_was(orch: Orch, endpoint: Endpoint) -> None:
    paused_with_a_plan(orch, endpoint)
    (question,) = asked(orch)
    assert (question["what"], question["question"]) == ("plan", "Run this plan?")
    assert "- id: one" in question["details"]
    assert orch("resume", "last").code == 6
    done = orch("approve", "last", "--yes", "--json")
    assert done.code == 0
    assert orch.files() == ["one.txt", "two.txt"]
    assert len(endpoint.of("planner")) == 1
    assert [row["edited"] for row in orch.events("PlanApproved")] == [False]


def test_a_plan_that_is_refused_ends_the_run(orch: Orch, endpoint: Endpoint) -> None:
    paused_with_a_plan(orch, endpoint)
    done = orch("approve", "last", "--no", "--because", "too much")
    assert done.code == 1
    assert "The plan was not approved: too much" in " ".join(done.err.split())
    assert orch.events("RunFinished")[-1]["outcome"] == "cancelled"
    assert orch.files() == []


def test_a_plan_that_is_edited_runs_as_it_was_edited_once_it_has_no_faults(
    orch: Orch, endpoint: Endpoint, tmp_path: Path
) -> None:
    paused_with_a_plan(orch, endpoint)
    spoil = editor(tmp_path, "text = text.replace('kind: tool', 'kind: wand', 1).replace('two', 'three')")
    again = orch("approve", "last", "--edit", EDITOR=spoil)
    assert again.code == 6
    faulty = asked(orch)[-1]
    assert "cannot run" in faulty["question"]
    assert "# - subtasks.one.kind: " in faulty["details"]
    assert "kind: wand" in faulty["details"]
    mend = editor(tmp_path, "text = text.replace('kind: wand', 'kind: tool')")
    done = orch("approve", "last", "--edit", "--json", EDITOR=mend)
    assert done.code == 0
    assert orch.files() == ["one.txt", "three.txt"]
    assert orch.events("PlanApproved")[0]["edited"] is True
    assert "plan edited by the user and approved" in orch.log


def test_a_plan_that_is_emptied_is_refused_and_one_that_is_not_saved_decides_nothing(
    orch: Orch, endpoint: Endpoint, tmp_path: Path
) -> None:
    paused_with_a_plan(orch, endpoint)
    kept = orch("approve", "last", "--edit", EDITOR="true")
    assert (kept.code, "Nothing was saved" in kept.error) == (2, True)
    done = orch("approve", "last", "--edit", EDITOR=editor(tmp_path, "text = ''"))
    assert done.code == 1
    assert "The plan was not approved" in " ".join(done.err.split())


def test_a_change_of_the_plan_that_is_refused_goes_back_to_the_reviser_with_the_reason(
    orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.reply = Cast(
        planner=[plan(tool_call("fetch", "read_file", path="gone.txt"))],
        reviser=[
            patch("It is written.", add=[writes("wild")]),
            patch("It is written.", add=[writes("wild")]),
            decided("stop", "It cannot be had."),
        ],
    )
    orch("ask", "--approve", "plan", "Read it.")
    assert orch("approve", "last", "--yes").code == 6
    assert asked(orch)[-1]["question"] == "Change the plan? It is written."
    done = orch("approve", "last", "--no", "--because", "leave it")
    assert (done.code, "It cannot be had" in done.error) == (1, True)
    assert "did not approve this change: leave it" in endpoint.of("reviser")[-1].text
    assert orch.files() == []


# --- tools and files


def test_what_an_attempt_would_write_is_shown_and_kept_back_where_it_is_refused(
    orch: Orch, endpoint: Endpoint
) -> None:
    (orch.workspace / "one.txt").write_text("before\n")
    endpoint.reply = Cast(
        planner=[plan(writes("one"))], reviser=[decided("stop", "The user does not want it.")]
    )
    assert orch("ask", "--approve", "writes", "Write it.").code == 6
    (question,) = asked(orch)
    assert question["what"] == "writes"
    assert "-before\n+made" in question["details"]
    assert f"{question['id']}  May one change 1 file? one.txt [yes/no]\n" in orch("approve", "last").err
    done = orch("approve", "last", "--no", "--because", "it was fine")
    assert done.code == 1
    assert "the user did not allow it to change files: it was fine" in endpoint.of("reviser")[0].text
    assert orch.file("one.txt") == "before\n"
    assert orch.remains() == []


def test_a_built_tool_is_used_when_its_code_was_looked_at_and_is_not_built_again(
    orch: Orch, endpoint: Endpoint
) -> None:
    new = [{"name": "count_vowels", "purpose": "Count the vowels of a text."}]
    endpoint.reply = Cast(
        planner=[plan(tool_call("count", "count_vowels", text="banana"), writes("other"), new_tools=new)],
        toolsmith=[SPECIFIED, CASED, WRITTEN],
    )
    assert orch("ask", "--approve", "tools", "Count.").code == 6
    (question,) = asked(orch)
    assert (question["what"], question["subject"]) == ("tools", "count_vowels")
    assert "def is_vowel" in question["details"]
    assert orch.files() == ["other.txt"]
    done = orch("approve", "last", "--yes", "--json")
    assert (done.code, done.envelope["states"]["count"]) == (0, "done")
    # The next run finds it in the library, and asks for itself.
    endpoint.reply = Cast(
        planner=[plan(tool_call("count", "count_vowels", text="banana"))],
        reviser=[decided("stop", "It is not allowed.")],
    )
    assert orch("ask", "--approve", "tools", "Count again.").code == 6
    assert orch("approve", "last", "--no", "--because", "I count myself").code == 1
    assert "the user did not allow it: I count myself" in endpoint.of("reviser")[0].text


def test_a_message_that_fits_nothing_is_said_and_removed(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[plan(human(), writes("other"))])
    assert orch("ask", "Paint it.").code == 6
    inbox = orch.journal().parent / "inbox"
    inbox.mkdir(mode=0o700, exist_ok=True)
    (inbox / "1.json").write_text("{")
    unknown = {"kind": "answer", "id": "beef", "reply": {"decision": "yes"}}
    (inbox / "2.json").write_text(json.dumps(unknown))
    (inbox / "3.json").symlink_to(orch.journal())
    remark = {"kind": "remark", "text": "take your time"}
    (inbox / "4.json").write_text(json.dumps(remark))
    endpoint.reply = Cast(reviser=[decided("keep", "It does.")])
    assert orch("resume", "last").code == 6
    notices = [row["message"] for row in orch.events("Noticed")]
    assert sum("was not used" in text for text in notices) == 3
    assert list(inbox.iterdir()) == []
    assert [row["text"] for row in orch.events("Remarked")] == ["take your time"]
    assert "take your time" in endpoint.of("reviser")[0].text

    inbox.mkdir(mode=0o700, exist_ok=True)
    (inbox / "1.json").write_text(json.dumps(remark | {"text": "in oil"}))
    endpoint.reply = Cast(reviser=[decided("keep", "It does.")])
    assert orch("resume", "last").code == 6
    text = endpoint.of("reviser")[-1].text
    assert text.index("take your time") < text.index("in oil")
    assert text.count("take your time") == text.count("in oil") == 1


def test_an_inbox_that_others_may_write_is_not_read(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[plan(human())])
    assert orch("ask", "Paint it.").code == 6
    inbox = orch.journal().parent / "inbox"
    inbox.mkdir(exist_ok=True)
    inbox.chmod(0o777)
    answer = {"kind": "answer", "reply": {"decision": "answered", "text": "red"}}
    (inbox / "1.json").write_text(json.dumps(answer))
    assert orch("resume", "last").code == 6
    assert "is not read" in orch.events("Noticed")[-1]["message"]
    inbox.chmod(0o700)
    assert orch("resume", "last").code == 0
    assert orch.events("ApprovalGiven")[0]["value"] == "red"


@pytest.mark.parametrize("said", ["none", "plan"])
def test_naming_some_kinds_never_leaves_out_what_is_asked_about_anyway(
    orch: Orch, endpoint: Endpoint, said: str
) -> None:
    endpoint.reply = Cast(
        planner=[plan(coder("look", network=["api.example.org"]))],
        agents={"Do look": [code("final_answer(1)")]},
    )
    done = orch("ask", "--approve", said, "Look.")
    if said == "plan":
        done = orch("approve", "last", "--yes")
    assert (done.code, len(asked(orch))) == ((0, 1) if said == "none" else (6, 2))
