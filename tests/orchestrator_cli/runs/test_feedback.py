"""The user's feedback on a run is recorded and learned from."""

import json
import shutil

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, answered, plan, tool_call

from memory import Record, Scope, open_store, record_id
from memory.records import RUN


def remembered(orch: Orch, run: str) -> Record:
    store = open_store(orch.home / "memory")
    (record,) = store.get([record_id(Scope(), RUN, run)], Scope())
    store.close()
    return record


@pytest.fixture
def run(orch: Orch, endpoint: Endpoint) -> str:
    endpoint.reply = Cast(planner=[answered("It is Paris.")])
    assert orch("ask", "What is the capital of France").code == 0
    return orch.journal().parent.name


def test_vote_is_recorded_and_the_last_one_counts(orch: Orch, run: str):
    assert orch("feedback", run, "good").code == 0
    done = orch("feedback", run, "bad", "too short, password=hunter2hunter2")
    assert done.code == 0, done.err
    assert "a warning" in done.err
    votes = [(event["vote"], event["why"]) for event in orch.events("FeedbackGiven")]
    assert votes == [("good", ""), ("bad", "too short, password=[secret removed]")]
    assert "the user called the run bad" in orch.log
    assert "hunter2" not in orch.log
    assert orch("log", "verify").code == 0
    said = remembered(orch, run).data["feedback"]
    assert isinstance(said, dict)
    assert (said["vote"], said["why"]) == ("bad", "too short, password=[secret removed]")
    assert "feedback   bad: too short" in orch("show", run).out
    assert json.loads(orch("show", "--json", run).out)["feedback"]["vote"] == "bad"


def test_vote_as_json_reports_its_consequence(orch: Orch, run: str):
    envelope = json.loads(orch("feedback", "last", "good", "--json").out)
    assert (envelope["run"], envelope["vote"]) == (run, "good")
    assert "its plan is an example" in envelope["message"]


def test_good_vote_allows_plan_reuse(orch: Orch, endpoint: Endpoint) -> None:
    (orch.workspace / "note.txt").write_text("The tide is high.")
    endpoint.reply = Cast(planner=[plan(tool_call("read", "read_file", path="note.txt"))], answer=[])
    assert orch("ask", "Read aloud what stands in note.txt").code == 0
    assert "its plan may be used again" in orch("feedback", "last", "good").err


def test_vote_is_journaled_without_a_memory_record(orch: Orch, run: str):
    store = open_store(orch.home / "memory")
    store.delete([record_id(Scope(), RUN, run)], Scope())
    store.close()
    done = orch("feedback", run, "good")
    assert (done.code, "memory has no record of it" in done.err) == (0, True)
    assert orch.events("FeedbackGiven")


def test_unfinished_run_cannot_be_voted_on(orch: Orch, run: str):
    copy = orch.home / "runs" / "20260101-000000-abcdef"
    shutil.copytree(orch.home / "runs" / run, copy)
    lines = (copy / "journal.jsonl").read_text().splitlines()
    cut = [line for line in lines if '"RunFinished"' not in line]
    (copy / "journal.jsonl").write_text("\n".join(line.replace(run, copy.name) for line in cut) + "\n")
    done = orch("feedback", copy.name, "good")
    assert done.code == 2
    assert f"orch resume {copy.name}" in done.error


def test_only_good_and_bad_are_accepted(orch: Orch, run: str):
    assert orch("feedback", run, "superb").code == 2
    assert not orch.events("FeedbackGiven")


def test_in_the_loop_good_and_bad_are_about_the_last_run(orch: Orch, endpoint: Endpoint):
    endpoint.reply = Cast(planner=[answered("It is Paris.")])
    said = '/good\nWhat is the capital of France\n/bad "it is much too short"\n'
    done = orch(stdin=said)
    assert "no run yet" in done.err
    assert "a warning" in done.err
    (vote,) = orch.events("FeedbackGiven")
    assert (vote["vote"], vote["why"]) == ("bad", "it is much too short")
