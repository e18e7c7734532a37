"""Subtasks done by a registered process: given, done, logged, committed, and ended when they must end."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint
from engine import Engine
from scripted_model import Cast, code, coder, decided, plan, process

KEEP = [decided("keep", "There is no other way.")]
NOTE_KEY = "import os; open({path!r}, 'a').write(os.environ['ORCH_IDEMPOTENCY_KEY'] + chr(10))"


def register(orch: Orch, folder: Path | None = None, **processes: dict[str, Any]) -> None:
    """Write processes into the user's configuration file, or that of another folder."""
    lines = []
    for name, fields in processes.items():
        lines.append(f"[processes.{name}]")
        lines += [f"{key} = {_toml(value)}" for key, value in ({"when": f"Does {name}."} | fields).items()]
    ((folder or orch.home) / "orch.toml").write_text("\n".join(lines))


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def outside(orch: Orch) -> Path:
    """A file that is no part of the workspace: what has reached the world."""
    return orch.home.parent / "outside"


def test_a_process_reads_its_inputs_and_its_value_and_files_are_those_of_any_subtask(
    orch: Orch, endpoint: Endpoint, engine: Engine
) -> None:
    program = (
        "import json, sys; total = sum(json.load(sys.stdin)['numbers']); "
        "open('total.txt', 'w').write(str(total)); print(json.dumps({'sum': total}))"
    )
    register(orch, add={"command": python(program), "effects": False})
    endpoint.reply = Cast(
        planner=[
            plan(
                coder("find", result={"type": "array"}),
                process(
                    "total", "add", ["find"], inputs={"numbers": "$find.value"}, check="value['sum'] == 6"
                ),
            )
        ],
        agents={"Do find": [code("final_answer([1, 2, 3])")]},
    )
    done = orch("ask", "--json", "Add them.")
    assert (done.code, done.envelope["states"]) == (0, {"find": "done", "total": "done"}), done.err
    assert orch.file("total.txt") == "6"
    assert "`total` called `process add(numbers=[1, 2, 3])`" in orch.log
    assert {run["name"] for run in engine.task_runs(orch.journal().parent.name)} == {"find", "total"}
    assert "- add: Does add." in endpoint.of("planner")[0].text
    assert orch.events("EffectBegun") == []


ARGUMENTS = ["-v/-q={loud}", "--day={day}", "--dry={dry}", "--tag={tags}", "-n {names}", "--", "{target}"]


def test_inputs_become_arguments_and_none_becomes_an_option(orch: Orch, endpoint: Endpoint) -> None:
    program = "import json, sys; print(json.dumps([sys.stdin.read(), *sys.argv[1:]]))"
    plain = {"command": python(program), "effects": False}
    loose = ["{target}", "-n {n}", "--day={day}"]
    register(orch, show={**plain, "arguments": ARGUMENTS}, loose={**plain, "arguments": loose})
    calls = {
        "all": {
            "loud": False,
            "day": "--evil; `x`",
            "dry": True,
            "tags": ["a", "-b"],
            "names": ["x", 3],
            "target": "-rf",
        },
        "few": {"dry": False, "tags": [], "day": None, "loud": True},
        "number": {"day": -3, "target": {"a": [1]}},
    }
    refused = {
        "positional": {"target": "--evil"},
        "negative": {"n": [1, -1]},
        "unknown": {"target": "a", "more": 1},
        "zero": {"day": "a\0b"},
        "long": {"day": " ".join(map(str, range(25_000)))},
    }
    endpoint.reply = Cast(
        planner=[
            plan(
                *(process(name, "show", inputs=given) for name, given in calls.items()),
                *(process(name, "loose", inputs=given) for name, given in refused.items()),
            )
        ],
        reviser=KEEP * len(refused),
    )
    done = orch("ask", "--json", "Show.", ORCH_MAX_PARALLEL="1")
    values = {row["result"]["subtask"]: row["result"]["value"][1:] for row in orch.events("SubtaskFinished")}
    assert values == {
        "all": ["-q", "--day=--evil; `x`", *["--dry", "--tag=a", "--tag=-b", "-n", "x", "3", "--", "-rf"]],
        "few": ["-v", "--"],
        "number": ["--day=-3", "--", '{"a": [1]}'],
    }, done.err
    assert {row["result"]["value"][0] for row in orch.events("SubtaskFinished")} == {""}
    reasons = {row["subtask"]: row["reason"] for row in orch.events("SubtaskFailed")}
    assert reasons.keys() == refused.keys()
    for name, word in zip(refused, ("target begins", "n begins", "more", "day holds", "bytes"), strict=True):
        assert word in reasons[name]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"arguments": ["{a}", "--a={a}"]}, "twice"),
        ({"arguments": ["--a{a}"]}, "--a{a}"),
        ({"arguments": ["{a}"], "inputs": {"properties": {"b": {}}}}, "'a'"),
        ({"arguments": [], "command": [], "flow": "a.py:b"}, "parameters"),
    ],
)
def test_arguments_that_cannot_be_are_named(orch: Orch, fields: dict[str, Any], word: str) -> None:
    register(orch, odd={"command": ["true"], **fields})
    done = orch("runs")
    assert done.code == 3
    assert word in done.error


def test_a_program_of_the_folder_is_not_found_by_its_name(orch: Orch, endpoint: Endpoint) -> None:
    (orch.workspace / "helper").write_text(f"#!/bin/sh\ntouch {outside(orch)}\n")
    (orch.workspace / "helper").chmod(0o755)
    register(orch, help={"command": ["helper"], "effects": False})
    endpoint.reply = Cast(planner=[plan(process("one", "help"))], reviser=KEEP)
    done = orch("ask", "--json", "Help.", PATH=f".::{os.environ['PATH']}:")
    assert done.envelope["states"] == {"one": "failed"}, done.err
    assert not outside(orch).exists()


def test_a_process_that_fails_says_why_and_leaves_no_trace(orch: Orch, endpoint: Endpoint) -> None:
    program = (
        "import sys; open('half.txt', 'w'); sys.stderr.write('x' * 9000 + 'no such customer'); sys.exit(3)"
    )
    schema = {"properties": {"name": {"type": "string", "minLength": 1}}, "required": ["name"]}
    register(
        orch,
        bill={"command": python(program), "effects": False, "inputs": schema},
        count={"command": python("print('many')"), "effects": False, "result": {"type": "integer"}},
    )
    calls = [process(name, "bill", inputs={"name": given}) for name, given in (("a", "Ann"), ("b", ""))]
    endpoint.reply = Cast(
        planner=[plan(*calls, process("c", "count"))],
        reviser=KEEP * 3,
    )
    done = orch("ask", "--json", "Bill.", ORCH_MAX_PARALLEL="1")
    assert (done.code, done.envelope["states"]) == (1, dict.fromkeys("abc", "failed"))
    reasons = {row["subtask"]: row["reason"] for row in orch.events("SubtaskFailed")}
    assert reasons["a"].startswith("it ended with exit code 3: x")
    assert reasons["a"].endswith("no such customer")
    assert len(reasons["a"]) < 700
    assert reasons["b"].startswith("the inputs are not those of the process bill: ")
    assert "'many' is not of type 'integer'" in reasons["c"]
    assert (orch.files(), orch.remains()) == ([], [])


def test_a_flow_of_the_users_runs_on_the_same_prefect_server(
    orch: Orch, endpoint: Endpoint, engine: Engine
) -> None:
    (orch.workspace / "flows.py").write_text(
        "from prefect import flow\n\n@flow(name='users-own')\n"
        "def report(day: str) -> dict:\n    print('aside')\n    return {'day': day, 'sales': 3}\n"
    )
    register(orch, report={"flow": "flows.py:report", "effects": False})
    endpoint.reply = Cast(planner=[plan(process("daily", "report", inputs={"day": "Monday"}))])
    done = orch("ask", "--json", "Report.")
    assert (done.code, done.envelope["states"]) == (0, {"daily": "done"}), done.err
    (finished,) = orch.events("SubtaskFinished")
    assert finished["result"]["value"] == {"day": "Monday", "sales": 3}
    run = orch.journal().parent.name
    found = engine.api("flow_runs/filter", {"flow_runs": {"tags": {"all_": [run, "daily"]}}})
    assert [row["state_type"] for row in found] == ["COMPLETED"]


def test_a_process_with_effects_is_asked_about_once_and_its_key_is_journaled(
    orch: Orch, endpoint: Endpoint
) -> None:
    note = NOTE_KEY.format(path=str(outside(orch)))
    register(orch, send={"command": python(f"{note}; print('sent')")})
    first, second = process("one", "send", inputs={"to": "ann"}), process("two", "send", inputs={"to": "bob"})
    endpoint.reply = Cast(planner=[plan(first, second)] * 2)
    paused = orch("ask", "--json", "Send.")
    assert paused.code == 6
    assert "The process `send` wants to run, with your rights." in paused.error
    assert not outside(orch).exists()
    done = orch("ask", "--json", "-y", "Send.")
    assert (done.code, done.envelope["states"]) == (0, {"one": "done", "two": "done"}), done.err
    assert [row["what"] for row in orch.events("ApprovalAsked")] == ["effects"]
    begun = {row["key"]: row["subtask"] for row in orch.events("EffectBegun")}
    assert set(outside(orch).read_text().split()) == set(begun)
    assert sorted(begun.values()) == ["one", "two"]
    assert {(row["ok"], row["outcome"]) for row in orch.events("EffectEnded")} == {(True, "sent")}


def test_a_process_of_the_workspace_runs_after_its_file_was_allowed(orch: Orch, endpoint: Endpoint) -> None:
    register(orch, tests={"command": ["true"], "effects": False})
    planted = f"open({str(outside(orch))!r}, 'w')"
    register(orch, orch.workspace, tests={"command": python(planted), "effects": False})
    endpoint.reply = Cast(planner=[plan(process("check", "tests"))])
    refused = orch("ask", "-y", "Test.", ORCH_APPROVE="none")
    assert (refused.code, endpoint.arrived) == (3, 0)
    assert "processes.tests" in refused.error
    assert not outside(orch).exists()
    orch.trust()
    assert orch("ask", "Test.").code == 0
    assert outside(orch).exists()


def test_retries_of_a_process_have_one_key_and_what_was_done_is_not_done_again(
    orch: Orch, endpoint: Endpoint
) -> None:
    note = NOTE_KEY.format(path=str(outside(orch)))
    program = f"{note}; n = len(open({str(outside(orch))!r}).readlines()); print(n); raise SystemExit(n < 2)"
    register(orch, send={"command": python(program)})
    endpoint.reply = Cast(planner=[plan(process("mail", "send", retries=3, check="value > 2"))], reviser=KEEP)
    done = orch("ask", "--json", "-y", "Send.")
    assert (done.code, done.envelope["states"]) == (1, {"mail": "failed"})
    # It failed once and was made again; then it was done, and only its value was looked at again.
    keys = outside(orch).read_text().split()
    assert (len(keys), len(set(keys))) == (2, 1)
    assert len(orch.events("SubtaskStarted")) == 4
    assert [row["ok"] for row in orch.events("EffectEnded")] == [False, True]


def test_a_program_that_this_run_wrote_is_not_run(orch: Orch, endpoint: Endpoint) -> None:
    (orch.workspace / "tool.py").write_text("print('mine')")
    register(orch, tool={"command": [sys.executable, "-u", "tool.py"], "effects": False})
    write = f"open('tool.py', 'w').write(\"open({str(outside(orch))!r}, 'w')\")\nfinal_answer('done')"
    endpoint.reply = Cast(
        planner=[
            plan(process("before", "tool"), coder("write", ["before"]), process("after", "tool", ["write"]))
        ],
        agents={"Do write": [code(write)]},
        reviser=KEEP,
    )
    done = orch("ask", "--json", "Go.")
    assert done.envelope["states"] == {"before": "done", "write": "done", "after": "failed"}
    (failed,) = orch.events("SubtaskFailed")
    assert (
        failed["reason"] == "tool.py was written in this run, and a process does not run what a model wrote"
    )
    assert not outside(orch).exists()


def test_a_script_that_this_run_wrote_is_not_run_however_the_command_names_it(
    orch: Orch, endpoint: Endpoint
) -> None:
    (orch.workspace / "lib").mkdir()
    for link, target in {"linked.py": "real.py", "bin": "lib"}.items():
        (orch.workspace / link).symlink_to(target)
    commands = {
        "option": [sys.executable, "-W", "ignore", "tool.py"],
        "wrapped": ["env", "A=1", sys.executable, "tool.py"],
        "quoted": ["sh", "-c", f"{sys.executable} ./tool.py"],
        "module": [sys.executable, "-m", "tool"],
        "linked": [sys.executable, "linked.py"],
        "below": [sys.executable, "bin/tool.py"],
        "data": ["cat", "data.csv"],
    }
    register(orch, **{name: {"command": command, "effects": False} for name, command in commands.items()})
    write = f"""for name in ("tool.py", "real.py", "lib/tool.py", "data.csv"):
    open(name, "w").write("open({str(outside(orch))!r}, 'w')")
final_answer("done")"""
    endpoint.reply = Cast(
        planner=[plan(coder("write"), *(process(name, name, ["write"]) for name in commands))],
        agents={"Do write": [code(write)]},
        reviser=KEEP * len(commands),
    )
    done = orch("ask", "--json", "Go.")
    states = dict.fromkeys(commands, "failed") | {"write": "done", "data": "done"}
    assert done.envelope["states"] == states, done.err
    assert {row["reason"].split()[0] for row in orch.events("SubtaskFailed")} == {
        "tool.py",
        "real.py",
        "lib/tool.py",
    }
    assert not outside(orch).exists()


FAMILY = """
import os, subprocess, sys, time
sleeper = [sys.executable, "-c", "import time; time.sleep(600)", sys.argv[1]]
subprocess.Popen(sleeper)
subprocess.Popen(sleeper, start_new_session=True)
open("half.txt", "w").write("half")
time.sleep(600)
"""


def family(mark: str) -> list[str]:
    """The command lines of living processes with this mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_text().split("\0")
        except OSError:
            continue
        if mark in line:
            found.append(" ".join(line))
    return found


def test_a_time_limit_ends_a_process_with_its_children_and_each_attempt_waits_longer(
    orch: Orch, endpoint: Endpoint
) -> None:
    mark = f"mark-{time.monotonic_ns()}"
    register(orch, hang={"command": [*python(FAMILY), mark], "effects": False, "timeout_s": 1})
    endpoint.reply = Cast(planner=[plan(process("wait", "hang", retries=2))], reviser=KEEP)
    done = orch("ask", "--json", "Wait.")
    assert (done.code, done.envelope["states"]) == (1, {"wait": "failed"})
    failed = orch.events("SubtaskFailed")
    assert [(row["attempt"], row["final"]) for row in failed] == [(1, False), (2, False), (3, True)]
    assert {row["reason"] for row in failed} == {"took longer than its 1 s"}
    starts, ends = orch.times("SubtaskStarted"), orch.times("SubtaskFailed")
    took = [(end - start).total_seconds() for start, end in zip(starts, ends, strict=True)]
    assert all(1 <= seconds < 3 for seconds in took), took
    waited = [(start - end).total_seconds() for end, start in zip(ends, starts[1:], strict=False)]
    # Half a second and one second, each up to half more or less.
    assert 0.2 < waited[0] < 2.5, waited
    assert 0.4 < waited[1] < 3.5, waited
    assert family(mark) == []
    assert (orch.files(), orch.remains()) == ([], [])


def test_a_process_with_effects_that_was_cut_off_is_not_repeated_blindly(
    orch: Orch, endpoint: Endpoint
) -> None:
    note = NOTE_KEY.format(path=str(outside(orch)))
    register(orch, send={"command": python(f"{note}; import time; time.sleep(600)"), "timeout_s": 1})
    endpoint.reply = Cast(planner=[plan(process("mail", "send", retries=1))])
    done = orch("ask", "--json", "Send.", ORCH_APPROVE="[]")
    assert done.code == 6
    assert "process send was begun, and it is not known whether it was done." in done.error
    assert len(outside(orch).read_text().split()) == 1
    assert orch.events("EffectEnded") == []


@pytest.mark.parametrize(("policy", "code", "calls"), [("ask", 6, 1), ("skip", 1, 1), ("retry", 1, 2)])
def test_yes_repeats_no_call_of_unknown_outcome(
    orch: Orch, endpoint: Endpoint, policy: str, code: int, calls: int
) -> None:
    note = NOTE_KEY.format(path=str(outside(orch)))
    register(orch, send={"command": python(f"{note}; import time; time.sleep(600)"), "timeout_s": 1})
    endpoint.reply = Cast(planner=[plan(process("mail", "send", retries=1))], reviser=KEEP)
    done = orch("ask", "-y", "Send.", ORCH_EFFECTS=policy)
    assert done.code == code, done.err
    if code == 6:
        assert orch("resume", "last", "-y").code == 6
    assert len(outside(orch).read_text().split()) == calls


def test_yes_repeats_no_confirmed_call(orch: Orch, endpoint: Endpoint) -> None:
    note = NOTE_KEY.format(path=str(outside(orch)))
    register(orch, send={"command": python(f"{note}; open('receipt.txt', 'w').write('sent'); print('sent')")})
    endpoint.reply = Cast(planner=[plan(process("mail", "send"), coder("use", ["mail"]))])
    assert orch("ask", "-y", "--max-calls", "1", "Send.").code == 5
    (orch.workspace / "receipt.txt").unlink()
    for args in ((), ("--approve", "none")):
        paused = orch("resume", "last", "-y", "--changed", "again", *args)
        assert paused.code == 6, paused.err
        assert "Do it again?" in paused.error
    assert len(outside(orch).read_text().split()) == 1


@pytest.mark.slow
def test_a_run_that_was_killed_in_a_process_with_effects_asks_and_repeats_it_with_the_same_key(
    orch: Orch, endpoint: Endpoint
) -> None:
    """About 15 s: three cold starts."""
    mark = f"mark-{time.monotonic_ns()}"
    note = NOTE_KEY.format(path=str(outside(orch)))
    wait = f"import time; time.sleep(600 * (len(open({str(outside(orch))!r}).readlines()) < 2))"
    register(orch, send={"command": [*python(f"{note}; {wait}; print('sent')"), mark]})
    endpoint.reply = Cast(planner=[plan(process("mail", "send"))])
    killed = subprocess.Popen(
        [*orch.command, "ask", "-y", "-q", "Send."],
        env=orch.environment(),
        cwd=orch.workspace,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not outside(orch).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    paused = orch("resume", "--json", "last")
    assert paused.code == 6
    assert "process send was begun, and it is not known whether it was done." in paused.error
    assert family(mark) == []
    done = orch("approve", "--json", "last", "--yes")
    assert (done.code, done.envelope["states"]) == (0, {"mail": "done"}), done.err
    keys = outside(orch).read_text().split()
    assert (len(keys), len(set(keys))) == (2, 1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "give it either a command or a flow"),
        ({"command": ["x"], "flow": "a.py:f"}, "give it either a command or a flow"),
        ({"flow": "a.py"}, "write path/to/file.py:function"),
        ({"command": ["x"], "result": {"type": "nothing"}}, "not a JSON Schema"),
        ({"command": ["x"], "shell": True}, "Extra inputs are not permitted"),
    ],
)
def test_a_process_that_is_registered_wrongly_is_a_clear_error(
    orch: Orch, fields: dict[str, Any], said: str
) -> None:
    register(orch, odd=fields)
    done = orch("ask", "Go.")
    assert done.code == 3
    assert "processes.odd" in done.error
    assert said in done.error
