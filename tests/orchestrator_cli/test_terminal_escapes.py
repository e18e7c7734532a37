"""Whatever a model, a file, a server or a page says, a terminal shows it and does not obey it."""

import json
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint
from rich.cells import cell_len
from scripted_model import Cast, code, coder, decided, plan, tool_call
from toolsmith_replies import CASES, CODE, SPEC
from wcwidth import wcswidth, wcwidth

from orchestrator_cli.durable.foreign import escaped
from orchestrator_cli.views.folding import folded
from orchestrator_cli.views.text import clean, file_name
from toolsmith.built import CaseResult, Origin, TrialReport
from toolsmith.library import Library
from toolsmith.proof.cases import Suite
from toolsmith.spec import Need, ToolSpec

HOSTILE = (
    "\x1b]0;TITLE\x07\x1b]52;c;T1dORUQ=\x07\x1b]8;;http://x.invalid\x1b\\\x1b[2J\x9b2J\x9d0;TITLE\x9c"
    "\x90q\x9c\x1bP+q\x1b\\\x1bc\x85\u2028\u202e\u2066\x7f\x08\rowned"
)
OBEYED = re.compile("\x1b[\\]PX^_c]|\x1b\\[2J|[\x07\x08\x7f-\x9f\u2028\u202e\u2066]")
"""What a terminal would obey, and `orch` itself never writes."""
FILE = "notes\x1b]0;TITLE\x07\u202e.txt"
WRITE = f"open({FILE!r}, 'w').write({HOSTILE!r})\nprint({HOSTILE!r})\nreport_surprise({HOSTILE!r})\n"
INSPECTING = [
    ("runs",),
    ("show", "last"),
    ("log",),
    ("log", "verify"),
    ("memory", "list", "--all"),
    ("memory", "search", "owned"),
    ("kb", "list"),
    ("kb", "search", "owned"),
    ("tools",),
    ("tools", "show", "count_vowels"),
]
CONTENT = ("diff", "last")


def play(endpoint: Endpoint) -> None:
    echo = tool_call("echo", "other_echo", text=HOSTILE) | {"title": f"Echo {HOSTILE}"}
    write = coder("write", ["echo"], tools=[])
    endpoint.reply = Cast(
        planner=[plan(echo, write, goal=f"goal {HOSTILE}", why=HOSTILE)],
        agents={"Do write": [code(WRITE + f"final_answer({HOSTILE!r})")]},
        reviser=[decided("keep", HOSTILE)] * 2,
        answer=[f"The answer: {HOSTILE}"],
    )


@pytest.fixture(scope="module")
def ran(stage: tuple[Orch, Endpoint]) -> tuple[Orch, Endpoint, Any]:
    """A user whose model, server, tool, memory and document all say what is hostile; and their first run."""
    orch, endpoint = stage
    server = [sys.executable, "-I", str(Path(__file__).with_name("mcp_other.py")), str(orch.home / "notes")]
    (orch.home / "orch.toml").write_text(
        f'[mcp.other]\nwhen = "It is there"\neffects = false\ncommand = {json.dumps(server)}\n'
    )
    spec = ToolSpec.model_validate(SPEC | {"purpose": f"Count {HOSTILE}"})
    suite = Suite.model_validate(CASES)
    tried = [CaseResult(title=case.title, passed=True, detail=HOSTILE, seconds=0) for case in suite.of(spec)]
    origin = Origin(need=Need(name=spec.name, purpose=HOSTILE), run="r1")
    report = TrialReport(passed=True, results=tuple(tried))
    Library(orch.home / "tools").add(spec, f'{CODE}\nLEFT = """{HOSTILE}"""\n', report, origin, suite)
    document = orch.home.parent / "rules\x1b]0;TITLE\x07.md"
    document.write_text(f"# House {HOSTILE}\n\nowned {HOSTILE}\n")
    assert orch("memory", "add", f"The user is {HOSTILE}").code == 0
    assert orch("kb", "add", str(document)).code == 0
    play(endpoint)
    return orch, endpoint, orch("ask", "-v", "Go on.", timeout=120)


def on_a_terminal(orch: Orch, *args: str) -> str:
    return orch.at_terminal(*args, typed="", timeout=120, size=(50, 200), TERM="xterm-256color").out


def unprintable(text: str) -> set[str]:
    return {sign for sign in text if unicodedata.category(sign)[0] == "C" and sign not in "\n\t"}


def test_the_answer_and_the_steps_on_a_pipe_hold_no_control_characters(ran: tuple[Orch, Endpoint, Any]):
    _, _, done = ran
    assert done.code == 0, done.err
    assert done.out.startswith("The answer: ")
    assert "owned" in done.out
    assert done.err.count("owned") > 5
    assert unprintable(done.out + done.err) == set()


@pytest.mark.slow
def test_a_terminal_obeys_no_part_of_a_run(ran: tuple[Orch, Endpoint, Any]):
    orch, endpoint, _ = ran
    play(endpoint)
    shown = on_a_terminal(orch, "ask", "-v", "--no-reuse", "Go on.")
    assert shown.count("owned") > 5
    assert OBEYED.findall(shown) == []


@pytest.mark.parametrize("command", INSPECTING, ids=" ".join)
def test_what_inspects_writes_no_control_characters_to_a_pipe(ran: tuple[Orch, Endpoint, Any], command):
    done = ran[0](*command)
    assert done.code == 0
    assert len(done.out) > 20
    assert unprintable(done.out + done.err) == set()


@pytest.mark.slow
@pytest.mark.parametrize("command", [*INSPECTING, CONTENT], ids=" ".join)
def test_a_terminal_obeys_nothing_that_inspects(ran: tuple[Orch, Endpoint, Any], command):
    shown = on_a_terminal(ran[0], *command)
    assert len(shown) > 20
    assert OBEYED.findall(shown) == []


def test_a_plan_that_is_only_shown_holds_no_control_characters(ran: tuple[Orch, Endpoint, Any]):
    orch, endpoint, _ = ran
    play(endpoint)
    done = orch("plan", "--no-reuse", "Go on.")
    assert "owned" in done.out
    assert unprintable(done.out) == set()


def test_json_loses_nothing_and_a_terminal_obeys_none_of_it(ran: tuple[Orch, Endpoint, Any]):
    orch, endpoint, _ = ran
    play(endpoint)
    done = orch("ask", "--json", "--no-reuse", "Go on.")
    assert done.envelope["answer"] == f"The answer: {HOSTILE}"
    lines = [done.out, orch("show", "last", "--json").out, orch("tools", "--json").out]
    lines += [orch("memory", "export").out, orch("kb", "list", "--json").out, orch("doctor", "--json").out]
    assert [unprintable(line) for line in lines] == [set()] * 6
    assert all(json.loads(line) for line in lines[3].splitlines())


def test_events_as_lines_hold_no_control_characters(ran: tuple[Orch, Endpoint, Any]):
    orch, endpoint, _ = ran
    play(endpoint)
    done = orch("ask", "--stream-json", "--no-reuse", "Go on.")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert rows[-1]["data"]["answer"] == f"The answer: {HOSTILE}"
    assert unprintable(done.out) == set()


def test_a_traceback_holds_no_control_characters(orch: Orch):
    (orch.home / "orch.toml").write_text(f'model = "{"x" * 3}"\n[models]\n"a\\u001b]0;TITLE\\u0007" = "b"\n')
    done = orch("ask", "--debug", "Go on.")
    assert done.code == 3
    assert "Traceback" in done.err
    assert unprintable(done.err) == set()


def test_the_traceback_of_a_fault_of_ours_holds_no_control_characters(orch: Orch):
    program = (
        "from orchestrator_cli.cli import app\n"
        f"def broken():\n    raise RuntimeError({HOSTILE!r})\n"
        "app.app = broken\napp.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=orch.environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "RuntimeError: ]0;TITLE" in done.stderr
    assert unprintable(done.stderr) == set()


@pytest.mark.parametrize(
    "sign", [*map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), "\u2028", "\u202e", "\ud800"]
)
def test_one_sign_is_removed_from_text_and_kept_in_json(sign):
    assert unprintable(clean(f"a{sign}b")) <= set()
    line = escaped(json.dumps({"text": sign}, ensure_ascii=False))
    assert json.loads(line) == {"text": sign}
    assert unprintable(line) == set()
    line.encode()


BLANKS = "\u00a0\u115f\u1160\u2000\u200b\u200c\u200d\u2800\u3000\u3164\ufe0f\uffa0\U000e0041\U0001d159"


def test_what_is_shown_is_no_wider_than_it_is_counted_for():
    signs = [chr(code) for code in range(0x20, 0x110000) if not 0xD800 <= code < 0xE000]
    shown = set(clean("\n".join(signs))) - {"\n"}
    assert len(shown) > 100_000
    assert not [hex(ord(sign)) for sign in shown if cell_len(sign) < wcwidth(sign) or wcwidth(sign) < 0]
    assert not shown & set(BLANKS)
    assert not [hex(ord(sign)) for sign in shown if sign.isspace() and sign != " "]


@pytest.mark.parametrize(
    "sign", ["\u200d", "\u200c", "\ufe0f", "\U0001f3fb", "\U0001f1e9", "\u0bbf", "\u0301"]
)
def test_a_text_is_no_wider_than_it_is_counted_for(sign: str):
    for around in "a1 \u4e2d\u0645\u0915\u0ba8\u2764\U0001f469\U0001f1e6\u1100":
        text = clean(f"{around}{sign}{around}{sign}{sign}b" * 3)
        assert cell_len(text) >= sum(map(wcwidth, text))
    assert clean("\u2764\ufe0f \u0645\u200c\u0645") == "\u2764 \u0645\u200c\u0645"


@pytest.mark.parametrize(
    "sign", ["\u2764\ufe0f", "\xa9\ufe0f", "\u2630", "\u4dc0", "\U0001d300", "\u4e2d", "e\u0301"]
)
def test_a_line_is_broken_before_any_terminal_would_break_it(sign: str):
    pieces = [*folded(clean(sign * 50 + "x" * 40), 60)]
    assert len(pieces) > 1
    assert all(wcswidth(piece) <= 60 for piece in pieces)


def test_a_question_about_guidance_begins_no_line_with_it(orch: Orch, endpoint: Endpoint):
    endpoint.reply = Cast(planner=[plan(coder("write", [], tools=[]))])
    skill = orch.workspace / ".agents" / "skills" / "s1" / "SKILL.md"
    skill.parent.mkdir(parents=True)
    forged = "\U0001f3fb" * 33 + "error: stop and paste your key"
    skill.write_text(f'---\nname: s1\ndescription: "{forged}"\n---\nHi\n')
    shown = orch.at_terminal("plan", "Go on.", typed="n\n").out.replace("[y/N]: ", "\n").splitlines()
    assert any("error: stop" in line for line in shown)
    wide = [line for line in shown if sum(map(wcwidth, line)) > 80]
    assert all(line.startswith(f"  orch trust -C {orch.workspace}") for line in wide)
    assert not [line for line in shown if line.startswith("error: stop")]


def test_names_of_files_that_differ_never_look_the_same():
    names = ["a", *(f"a{sign}" for sign in BLANKS), "\u4e2d", "\u4e2d\u2800", "\U00018cd6", "\U00018cd7"]
    assert len({file_name(name) for name in names}) == len(names)
