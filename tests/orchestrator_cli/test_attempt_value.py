"""An attempt is a value in and a value out: one of each kind, made in a process of its own over a pipe."""

import json
import subprocess
import sys
from pathlib import Path

import attempt_worker
from command import Orch
from endpoint import Endpoint, call
from scripted_model import Cast, caller, code, coder, judged, plan, process, tool_call
from toolsmith_replies import CASED, SPECIFIED, WRITTEN

from orchestrator_cli.errors import ApprovalNeeded, LimitReached
from orchestrator_cli.execution.attempt import AttemptFailed, ErrorValue, SubtaskTimedOut

PROGRAM = "import json, sys; print(json.load(sys.stdin)['n'] + 1); open('ran.txt', 'w').write('x')"
NEW = [{"name": "count_vowels", "purpose": "Count the vowels of a text."}]
PLAN = plan(
    {"id": "known", "title": "Say it", "kind": "answer", "instruction": "2"},
    {"id": "choose", "title": "Choose", "kind": "human", "instruction": "Which colour?"},
    tool_call("vowels", "count_vowels", text="banana"),
    process("add", "adder", ["vowels"], inputs={"n": "$vowels.value"}),
    coder(
        "write",
        ["add", "choose"],
        inputs={"n": "$add.value", "colour": "$choose.value"},
        tools=["count_vowels", "write_file"],
        check="'made.txt' in files",
        judge="names the colour",
    ),
    caller("read", ["write"], tools=["read_file", "fetch_url"]),
    new_tools=NEW,
)
STEPS = [
    code("write_file('made.txt', f'{colour} {count_vowels(colour)}')"),
    code("report_surprise('one vowel only')\nfinal_answer(f'{colour} {n}')"),
]
READ = [
    call("fetch_url", {"url": "http://127.0.0.1/"}),
    call("read_file", {"path": "made.txt"}),
    call("final_answer", {"answer": "red 1"}),
]


def test_an_attempt_of_each_kind_runs_in_another_process(orch: Orch, endpoint: Endpoint) -> None:
    command = [sys.executable, "-c", PROGRAM]
    rows = ["[processes.adder]", 'when = "adds one"', f"command = {json.dumps(command)}"]
    (orch.home / "orch.toml").write_text("\n".join(rows))
    endpoint.reply = Cast(
        planner=[PLAN],
        agents={"Do write": STEPS, "Do read": READ},
        toolsmith=[SPECIFIED, CASED, WRITTEN],
        judge=[judged(True, "it does")],
        reviser=['{"decision": "keep", "reason": "one is enough"}'],
    )
    done = subprocess.run(
        [sys.executable, attempt_worker.__file__, "ask", "Do one of each.", "red"],
        cwd=orch.workspace,
        env=orch.environment(),
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert (done.returncode, done.stdout) == (0, "All is done.\n"), done.stderr
    finished = {row["subtask"]: row["result"] for row in orch.events("SubtaskFinished")}
    values = {name: result["value"] for name, result in finished.items()}
    assert values == {
        "known": "2",
        "choose": "red",
        "vowels": 3,
        "add": 4,
        "write": "red 4",
        "read": "red 1",
    }
    assert (Path(orch.workspace) / "made.txt").read_text() == "red 1"
    assert (Path(orch.workspace) / "ran.txt").read_text() == "x"
    assert finished["write"]["surprise"] == "one vowel only"
    assert finished["write"]["files"] == ["made.txt"]
    # What happened inside is in the journal of the run.
    assert [row["ok"] for row in orch.events("EffectEnded")] == [True]
    assert {row["tool"] for row in orch.events("ToolCalled")} >= {
        "count_vowels",
        "process adder",
        "read_file",
    }
    assert not next(row for row in orch.events("ToolCalled") if row["tool"] == "fetch_url")["ok"]
    assert [row["good"] for row in orch.events("ResultJudged")] == [True]
    assert len(orch.events("CodeRan")) == 2
    assert orch.events("RunFinished")[0]["usage"]["calls"] == len(endpoint.exchanges)


def test_errors_cross_as_values_with_all_that_decides() -> None:
    needed = ApprovalNeeded("Someone has to decide.", "orch approve", ("q1",))
    for error in (
        needed,
        LimitReached("too much", "more"),
        SubtaskTimedOut("took long"),
        AttemptFailed("no"),
    ):
        value = ErrorValue.model_validate_json(ErrorValue.of(error).model_dump_json())
        again = value.error()
        assert (type(again), str(again)) == (type(error), str(error))
        assert getattr(again, "approvals", None) == getattr(error, "approvals", None)
    unknown = ErrorValue.of(ZeroDivisionError("by zero")).error()
    assert (type(unknown), str(unknown)) == (AttemptFailed, "ZeroDivisionError: by zero")
