"""A person at a real terminal: answers, interjects, edits the plan, leaves, and gets the terminal back."""

import json
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from command import Orch
from endpoint import Endpoint, call
from scripted_model import Cast, caller, decided, patch, plan, tool_call

FINISH = call("final_answer", {"answer": "made"})
CHOOSE = {
    "id": "choose",
    "title": "Choose",
    "kind": "human",
    "instruction": "Which colour?",
    "result": {"enum": ["red", "green"]},
}
WRITE = tool_call("write", "write_file", path="one.txt", content="made")
START_S = 90


class Screen:
    """`orch` in a terminal of its own."""

    def __init__(self, orch: Orch, *args: str, **env: str) -> None:
        self.orch = orch
        self.child: pexpect.spawn[str] = pexpect.spawn(
            orch.command[0],
            [*orch.command[1:], *args],
            env={**orch.environment(**env), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},  # type: ignore[arg-type]
            cwd=str(orch.workspace),
            encoding="utf-8",
            codec_errors="replace",
            timeout=START_S,
            dimensions=(40, 100),
        )
        self.before = self.modes()

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.child.child_fd)[:4]

    def expect_prompt(self) -> None:
        # Each prompt begins by asking the terminal to mark what is pasted; redrawing one does not.
        self.child.expect(r"\x1b\[\?2004h.*?orch>")

    def expect(self, text: str) -> None:
        self.child.expect_exact(text)

    def type(self, text: str) -> None:
        self.child.send(text)

    def end(self) -> int:
        self.child.expect(pexpect.EOF)
        modes = self.modes()
        self.child.close()
        assert modes == self.before
        return int(self.child.exitstatus or 0)

    def when(self, moment: Callable[[], bool]) -> None:
        wait_for(moment)


def wait_for(moment: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_S
    while not moment():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def open_screen(orch: Orch) -> Iterator[Callable[..., Screen]]:
    opened: list[Screen] = []

    def begin(*args: str, **env: str) -> Screen:
        opened.append(Screen(orch, *args, **env))
        return opened[-1]

    yield begin
    for screen in opened:
        screen.child.close(force=True)


Open = Callable[..., Screen]


def test_who_leaves_a_question_open_is_notified(orch: Orch, endpoint: Endpoint, open_screen: Open) -> None:
    kept = orch.home.parent / "kept"
    argv = [sys.executable, "-c", f"import sys; open({str(kept)!r}, 'a').write(sys.stdin.read() + chr(10))"]
    notify = f"[notify]\non = ['waiting']\nafter_s = 0.3\ncommand = {json.dumps(argv)}\n"
    (orch.home / "orch.toml").write_text(notify)
    endpoint.reply = Cast(planner=[plan(CHOOSE)])
    screen = open_screen("ask", "Choose.")
    screen.when(lambda: kept.exists() and kept.read_text().endswith("\n"))
    screen.expect("[1-2] › ")  # what is typed before the question is shown does not answer it
    screen.type("red\r")
    assert screen.end() == 0
    (sent,) = map(json.loads, kept.read_text().splitlines())
    assert (sent["event"], sent["outcome"], sent["detail"]) == ("waiting", "", "Which colour?")


@pytest.mark.both_ways
def test_a_person_answers_remarks_and_asks_again_in_the_loop(
    open_screen: Open, orch: Orch, endpoint: Endpoint
) -> None:
    def until_said(_: dict[str, Any]) -> Any:
        wait_for(lambda: bool(orch.events("Remarked")))
        return FINISH

    use = caller("use", ["choose", "write"], inputs={"colour": "$choose.value"})
    reviser = [patch("The user asks for more.", add=[caller("more", ["use"])])]
    endpoint.reply = Cast(
        planner=[plan(CHOOSE, WRITE | {"approve": True}, caller("slow"), use)],
        agents={"Do slow": [until_said], "Do use": [FINISH], "Do more": [FINISH]},
        reviser=reviser,
    )
    screen = open_screen()
    screen.expect_prompt()
    screen.type("Paint it.\r")
    screen.expect("2  green")
    screen.expect("[1-2] › ")
    screen.type("3\r")
    screen.expect("one of the choices")
    # A line can be edited with the usual keys, whatever its letters are.
    screen.type("9ü\x7f\x7f2")
    screen.type("\r")
    screen.expect("May write start?")
    screen.expect("[yes/no] › ")
    screen.type("\r")
    screen.type("perhaps\r")
    screen.expect("Nothing was decided")
    screen.type("YES\r")
    screen.when(lambda: len(orch.events("ApprovalGiven")) == 2)
    screen.type("\x1b[200~Make\rmore of it, größer\x1b[201~")
    screen.expect("you › ")
    screen.type("\r")
    screen.expect("All is done.")
    assert [row["text"] for row in orch.events("Remarked")] == ["Make more of it, größer"]
    assert "Make more of it, größer" in endpoint.of("reviser")[0].text
    assert "Make more of it, größer" in endpoint.of("answer")[0].text
    assert [row["plan"]["version"] for row in orch.events("PlanRevised")] == [2]
    done = {row["subtask"] for row in orch.events("SubtaskFinished")}
    assert done == {"choose", "write", "slow", "use", "more"}
    assert "green" in next(e.text for e in endpoint.of("agent") if "Do use" in e.text)
    screen.expect_prompt()
    screen.type("/help\r")
    screen.expect("twice at an empty line")
    screen.type("\x04")
    assert screen.end() == 0


def test_a_run_is_remarked_on_stopped_resumed_and_taken_back_in_one_loop(
    open_screen: Open, orch: Orch, endpoint: Endpoint
) -> None:
    def never(_: dict[str, Any]) -> Any:
        wait_for(lambda: bool(orch.events("RunFinished")))
        return FINISH

    def when_remarked(_: dict[str, Any]) -> Any:
        wait_for(lambda: len(orch.events("Remarked")) == 2)
        return FINISH

    endpoint.reply = Cast(
        planner=[plan(WRITE, caller("slow", ["write"]))],
        agents={"Do slow": [never, when_remarked], "Do more": [FINISH]},
        reviser=[
            patch("The user asks for more.", add=[caller("more", ["slow"])]),
            decided("keep", "The plan has it."),
        ],
    )
    screen = open_screen()
    screen.expect_prompt()
    screen.type("Write it.\r")
    screen.expect("Type a remark")
    screen.expect("slow")
    screen.when(lambda: bool(orch.events("FilesChanged")))
    screen.type("and more\r")
    screen.when(lambda: bool(orch.events("PlanRevised")))
    screen.type("\x03")
    screen.expect("Interrupted")
    screen.expect("/resume")
    screen.expect_prompt()
    screen.type("/resume\r")
    screen.expect("attempt 2")
    screen.type("/help\r/undo\rhelp\r /and the other\r")
    screen.when(lambda: len(orch.events("Remarked")) > 1)
    screen.expect("has to wait")
    screen.expect("All is done.")
    assert [row["text"] for row in orch.events("Remarked")] == ["and more", "/and the other"]
    assert {row["subtask"] for row in orch.events("SubtaskFinished")} == {"write", "slow", "more"}
    screen.expect_prompt()
    assert orch.file("one.txt") == "made"
    screen.type("/undo\r")
    screen.when(lambda: bool(orch.events("RunUndone")))
    screen.expect_prompt()
    assert orch.files() == []
    screen.type("exit\r")
    assert screen.end() == 0


def test_a_plan_is_drawn_and_run_and_what_comes_too_late_is_the_next_prompt(
    open_screen: Open, orch: Orch, endpoint: Endpoint
) -> None:
    def at_last(_: dict[str, Any]) -> Any:
        wait_for(lambda: bool(orch.events("Remarked")))
        return "All is done."

    endpoint.reply = Cast(planner=[plan(WRITE, tool_call("other", "list_files"))], answer=[at_last])
    screen = open_screen()
    screen.expect_prompt()
    screen.type("/plan Write it.\r")
    screen.expect("/run runs it")
    screen.expect_prompt()
    assert orch.files() == []
    screen.type("/run\r")
    screen.expect("the answer is written")
    screen.type("and another\r")
    screen.expect("All is done.")
    screen.expect("orch> and another")
    assert len(endpoint.of("planner")) == 1
    assert orch.file("one.txt") == "made"


@pytest.mark.parametrize("mode", ["ask", "loop"])
def test_no_question_is_answered_by_what_was_typed_before_it_was_shown(
    mode: str, open_screen: Open, orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.reply = Cast(
        planner=[plan(WRITE | {"approve": True}, tool_call("other", "list_files") | {"approve": True})]
    )
    screen = open_screen(*(["ask", "Write it."] if mode == "ask" else []))
    if mode == "loop":
        screen.expect_prompt()
        screen.type("Write it.\r")
    screen.expect("[yes/no] › ")
    screen.when(lambda: len(orch.events("ApprovalAsked")) == 2)
    screen.type("yes\ryes\ry")
    screen.when(lambda: len(orch.events("ApprovalGiven")) == 1)
    time.sleep(0.5)
    screen.type("\r")
    time.sleep(0.5)
    assert len(orch.events("ApprovalGiven")) == 1
    screen.type("yes\r")
    screen.expect("All is done.")
    assert len(orch.events("ApprovalGiven")) == 2


@pytest.mark.both_ways
def test_ctrl_c_ends_a_run_that_asks_and_gives_the_terminal_back(
    open_screen: Open, orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.reply = Cast(planner=[plan(CHOOSE)])
    screen = open_screen("ask", "Paint it.")
    screen.expect("[1-2] › ")
    screen.type("half a li")
    screen.expect("half a li")
    screen.type("\x03")
    assert screen.end() == 130
    assert orch.events("RunFinished")[-1]["outcome"] == "interrupted"


def test_ctrl_d_leaves_the_question_for_later_and_another_process_can_answer_while_one_waits(
    open_screen: Open, orch: Orch, endpoint: Endpoint
) -> None:
    use = caller("use", ["choose"], inputs={"colour": "$choose.value"})
    endpoint.reply = Cast(planner=[plan(CHOOSE, use)], agents={"Do use": [FINISH]})
    screen = open_screen("ask", "Paint it.")
    screen.expect("[1-2] › ")
    screen.type("\x04")
    screen.expect("paused")
    assert screen.end() == 6
    again = open_screen("resume", "last")
    again.expect("[1-2] › ")
    approved = orch("approve", "last", "--answer", "red")
    assert (approved.code, "was given the answer (process" in approved.err) == (0, True)
    again.expect("All is done.")
    assert again.end() == 0
    assert orch.events("ApprovalGiven")[-1]["value"] == "red"


def test_a_plan_is_edited_until_it_has_no_faults(
    open_screen: Open, orch: Orch, endpoint: Endpoint, tmp_path: Path
) -> None:
    script = tmp_path / "editor.py"
    script.write_text(
        "import json, pathlib, sys, termios\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "text = path.read_text()\n"
        f"log = pathlib.Path({str(tmp_path / 'seen.jsonl')!r})\n"
        "echo = bool(termios.tcgetattr(0)[3] & termios.ECHO)\n"
        "log.open('a').write(json.dumps([text, echo]) + '\\n')\n"
        "if 'kind: wand' in text:\n"
        "    text = text.replace('kind: wand', 'kind: tool')\n"
        "else:\n"
        "    text = text.replace('kind: tool', 'kind: wand').replace('one.txt', 'two.txt')\n"
        "path.write_text(text)\n"
    )
    endpoint.reply = Cast(planner=[plan(WRITE)])
    screen = open_screen("ask", "--approve", "plan", "Write.", EDITOR=f"{sys.executable} {script}")
    screen.expect("[yes/no/edit] › ")
    screen.type("edit\r")
    screen.expect("cannot run")
    screen.expect("[yes/no/edit] › ")
    screen.type("e\r")
    screen.expect("as you changed it")
    assert screen.end() == 0
    assert orch.files() == ["two.txt"]
    seen = [json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines()]
    assert [echo for _, echo in seen] == [True, True]
    assert "# - subtasks.write.kind: " in seen[1][0]


def test_quiet_asks_no_question(open_screen: Open, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[plan(CHOOSE)])
    screen = open_screen("ask", "-q", "Paint it.")
    screen.expect("A person has to decide")
    assert screen.end() == 6


@pytest.mark.slow  # starts two cold processes
def test_user_chooses_what_becomes_of_changed_files(
    open_screen: Open, orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.reply = Cast(planner=[plan(WRITE, caller("use", ["write"]))], agents={"Do use": [FINISH]})
    assert orch("ask", "Write it.", "--max-calls", "1").code == 5
    (orch.workspace / "one.txt").unlink()
    for answer, code, times in (("stop", 130, 1), ("1", 0, 2)):
        screen = open_screen("resume", "last", "--max-calls", "9")
        screen.expect("one.txt (of write) is gone")
        screen.expect("[1-3] › ")
        screen.type(f"{answer}\r")
        assert screen.end() == code
        assert [row["subtask"] for row in orch.events("SubtaskFinished")].count("write") == times
    assert orch.file("one.txt") == "made"
