"""The interactive loop, in a pseudo-terminal and in a pipe."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from command import Orch

from orchestrator_cli.cli.chat.budget import names_of
from orchestrator_cli.cli.chat.prompt_line import fitting
from orchestrator_cli.cli.chat.templates import from_template, templates
from orchestrator_cli.models.sources import LiveModels
from orchestrator_cli.settings import Settings

SCRIPT = '''
import json, sys, time
from pathlib import Path
from orchestrator_cli.errors import ProviderError, RunFailed
from orchestrator_cli.cli.chat.repl import run_repl

home = Path(sys.argv[1])


class Files:
    """A session that writes down what it is asked."""

    history_path = home / "state" / "history"

    def __init__(self):
        self.asked = []

    def ask(self, prompt, pasted):
        with (home / "pasted.jsonl").open("a") as file:
            file.write(json.dumps(pasted) + "\\n")
        with (home / "asked.jsonl").open("a") as file:
            file.write(json.dumps(prompt) + "\\n")
        if prompt == "slow":
            print("working", flush=True)
            time.sleep(60)
        if prompt == "broken":
            raise ProviderError("The model does not answer.", "Try again \\x1b[2Jlater.")
        self.asked.append(prompt)
        print(f"answer {len(self.asked)}", flush=True)
        return 1 if prompt == "fails" else 0

    def files(self):
        return [str(home)]

    def attach(self, names):
        return [f"attached {name}" for name in names]

    def plan(self, prompt, pasted):
        return [f"plan of {prompt!r}"]

    def status(self):
        return f"no model \x1b[2J· {len(self.asked)} asked"

    def model(self, name):
        return [f"model {name}"]

    def command(self, arguments):
        print("called", *arguments, flush=True)
        return 3 if arguments[0] == "doctor" else 0

    def background(self, prompt, pasted):
        return [f"beside: {prompt}"]

    def left(self):
        return "left over" if self.asked == ["leaves"] else ""

    def words(self, command):
        return ["last", "20260101-000000-abcdef"] if command == "show" else []

    def templates(self):
        return {"review": "Review a file"}

    def from_template(self, name, words):
        return f"{name} of {words}"

    def budget(self, dollars):
        return [f"budget {dollars}"]

    def run_planned(self):
        print("ran the plan", flush=True)
        return 0

    def edit_planned(self):
        return ["edited"]

    def last_plan(self):
        return [f"plan of {self.asked[-1]!r}"] if self.asked else None

    def tools(self):
        return ["count v1  in use", "    Count the words"] if self.asked else []

    def log_tail(self):
        return "## Run 1\\n\\n> it" if self.asked else ""


code = run_repl(Files())
print("left with", code)
sys.exit(code)
'''

PASTE, END_OF_PASTE = "\x1b[200~", "\x1b[201~"


class Repl:
    """The loop in a terminal of its own."""

    def __init__(self, home: Path) -> None:
        script = home / "script.py"
        script.write_text(SCRIPT)
        env = {"TERM": "xterm", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.home = home
        self.child: pexpect.spawn[str] = pexpect.spawn(
            sys.executable,
            [str(script), str(home)],
            env=env,
            encoding="utf-8",
            timeout=15,
            dimensions=(40, 100),
        )
        self.child.expect("Ctrl-D leaves")
        self.expect_prompt()

    def expect_prompt(self) -> None:
        # Each prompt begins by asking the terminal to mark what is pasted; redrawing one does not.
        self.child.expect(r"\x1b\[\?2004h.*?orch>")

    def send(self, keys: str) -> None:
        self.child.send(keys)

    def expect(self, text: str) -> None:
        self.child.expect_exact(text)

    def asked(self) -> list[str]:
        path = self.home / "asked.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def leave(self) -> None:
        self.child.sendeof()
        self.expect("left with 0")
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert self.child.exitstatus == 0


@pytest.fixture
def repl(tmp_path: Path) -> Iterator[Repl]:
    repl = Repl(tmp_path)
    yield repl
    repl.child.close(force=True)


def test_what_was_pasted_is_known_and_files_are_attached_by_name(repl: Repl) -> None:
    repl.send(f"see {PASTE}@a.txt\rhere{END_OF_PASTE}\r")
    repl.expect("answer 1")
    repl.expect_prompt()
    repl.send("/file two b\r")
    repl.expect("attached two")
    repl.expect("attached b")
    repl.expect_prompt()
    repl.leave()
    assert json.loads((repl.home / "pasted.jsonl").read_text()) == ["@a.txt\nhere"]


def test_enter_runs_a_prompt_and_an_empty_line_does_nothing(repl: Repl) -> None:
    repl.send("\r")
    repl.expect_prompt()
    repl.send("   \r")
    repl.expect_prompt()
    repl.send("count words\r")
    repl.expect("answer 1")
    repl.expect_prompt()
    repl.leave()
    assert repl.asked() == ["count words"]


def test_alt_enter_and_a_trailing_backslash_begin_a_new_line(repl: Repl) -> None:
    repl.send("one\x1b\rtwo\\\rthree\r")
    repl.expect("answer 1")
    assert repl.asked() == ["one\ntwo\nthree"]


def test_pasted_lines_stay_together(repl: Repl) -> None:
    repl.send(f"{PASTE}first\nsecond\n\nthird{END_OF_PASTE}")
    repl.expect("third")
    assert repl.asked() == []
    repl.send("\r")
    repl.expect("answer 1")
    assert repl.asked() == ["first\nsecond\n\nthird"]


def test_history_reaches_into_the_next_start_with_its_lines_whole(tmp_path: Path) -> None:
    first = Repl(tmp_path)
    first.send("one\x1b\rtwo\r")
    first.expect("answer 1")
    first.expect_prompt()
    first.leave()
    second = Repl(tmp_path)
    second.send("\x1b[A")
    second.expect("two")
    second.send("\r")
    second.expect("answer 1")
    second.expect_prompt()
    second.leave()
    assert second.asked() == ["one\ntwo"] * 2
    assert (tmp_path / "state" / "history").stat().st_mode & 0o077 == 0


def test_ctrl_c_at_the_prompt_empties_the_line(repl: Repl) -> None:
    repl.send("not this")
    repl.expect("not this")
    repl.send("\x03")
    repl.expect_prompt()
    repl.send("this\r")
    repl.expect("answer 1")
    assert repl.asked() == ["this"]


def test_ctrl_c_during_a_run_ends_that_run_only(repl: Repl) -> None:
    repl.send("slow\r")
    repl.expect("working")
    repl.send("\x03")
    repl.expect("Interrupted.")
    repl.expect_prompt()
    repl.send("next\r")
    repl.expect("answer 1")
    repl.expect_prompt()
    repl.leave()


def test_an_error_is_shown_with_its_remedy_and_the_loop_goes_on(repl: Repl) -> None:
    repl.send("broken\r")
    repl.expect("error: The model does not answer.")
    repl.expect(r"  Try again \u001b[2Jlater.")
    repl.expect_prompt()
    repl.send("fails\r")
    repl.expect("answer 1")
    repl.expect_prompt()
    repl.leave()


def test_the_commands_show_plan_tools_and_log(repl: Repl) -> None:
    for before, after in (("/plan", "No plan yet."), ("/tools", "No tools yet"), ("/log", "No run yet.")):
        repl.send(f"{before}\r")
        repl.expect(after)
        repl.expect_prompt()
    repl.send("/plan make tea\r")
    repl.expect("plan of 'make tea'")
    repl.expect_prompt()
    assert repl.asked() == []
    repl.send("go\r")
    repl.expect("answer 1")
    repl.expect_prompt()
    for command, text in (("/plan", "plan of 'go'"), ("/tools", "Count the words"), ("/log", "Run 1")):
        repl.send(f"{command}\r")
        repl.expect(text)
        repl.expect_prompt()


def test_help_lists_every_command(repl: Repl) -> None:
    repl.send("/help\r")
    for command in ("/plan [PROMPT]", "/tools", "/log", "/help", "/quit"):
        repl.expect(f"  {command}")


def test_an_unknown_command_gets_a_suggestion(repl: Repl) -> None:
    repl.send("/tolls\r")
    repl.expect("error: There is no command /tolls.")
    repl.expect("Did you mean /tools?")
    repl.expect_prompt()
    repl.send(" /etc/hosts, what is it?\r")
    repl.expect("answer 1")
    assert repl.asked() == ["/etc/hosts, what is it?"]


def test_tab_completes_a_command(repl: Repl) -> None:
    repl.send("/to\t\r")
    repl.expect("No tools yet")


def test_quit_leaves(repl: Repl) -> None:
    repl.send("/quit\r")
    repl.expect("left with 0")


def test_a_history_that_cannot_be_written_is_said_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    child = Repl(tmp_path)
    child.send("go\r")
    child.expect("answer 1")
    child.expect_prompt()
    child.leave()


# --- in a pipe

Piped = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def piped(tmp_path: Path) -> Piped:
    def run(text: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", SCRIPT, tmp_path]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=30, check=False)

    return run


def test_in_a_pipe_every_line_is_a_prompt(piped: Piped, tmp_path: Path) -> None:
    done = piped("one\n\n/plan two\nthree\\\nfour")
    assert done.returncode == 0
    assert done.stdout == "answer 1\nanswer 2\nanswer 3\nleft with 0\n"
    assert done.stderr == "plan of 'two'\n"
    asked = (tmp_path / "asked.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in asked] == ["one", "three\\", "four"]


def test_in_a_pipe_the_first_failure_is_the_exit_code_and_the_rest_still_runs(piped: Piped) -> None:
    done = piped("one\nbroken\nfails\nlast\n/quit\nnever\n")
    assert done.returncode == 4
    assert "answer 3" in done.stdout
    assert "answer 4" not in done.stdout
    assert done.stderr == "error: The model does not answer.\n  Try again \\u001b[2Jlater.\n"


def test_importing_the_loop_does_not_load_prompt_toolkit() -> None:
    script = (
        "import sys, orchestrator_cli.cli.chat.repl as _; "
        "sys.exit(bool({'prompt_toolkit', 'rich'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_commands_of_the_command_line_are_about_the_last_run(repl: Repl) -> None:
    for typed, called in {
        "/show": "called show last",
        "/undo --json": "called undo --json last",
        "/diff abc": "called diff abc",
        "/runs -n 3": "called runs -n 3",
        '/run backup "to=a b"': "called run backup to=a b",
    }.items():
        repl.send(f"{typed}\r")
        repl.expect(called)
        repl.expect_prompt()
    repl.send('/show "open\r')
    repl.expect("quotation")


@pytest.mark.parametrize("word", ["exit", "QUIT", "/exit"])
def test_a_word_that_means_to_leave_leaves(repl: Repl, word: str) -> None:
    repl.send(f"{word}\r")
    repl.expect("left with 0")
    assert not (repl.home / "asked.jsonl").exists()


def test_help_needs_no_slash(repl: Repl) -> None:
    repl.send("Help\r")
    repl.expect("/cost")
    repl.expect_prompt()
    assert repl.asked() == []


def test_clear_clears_the_screen_and_is_no_prompt(repl: Repl) -> None:
    repl.send("clear\r")
    repl.child.expect_exact("\x1b[H\x1b[2J")
    repl.expect_prompt()
    assert not (repl.home / "asked.jsonl").exists()


def test_ctrl_c_twice_at_an_empty_line_leaves(repl: Repl) -> None:
    repl.send("half\x03")
    repl.expect_prompt()
    repl.send("\x03")
    repl.expect("Ctrl-C again leaves")
    repl.expect_prompt()
    repl.send("\x03")
    repl.expect("left with 0")


def test_what_was_typed_too_late_for_a_run_is_the_next_prompt(repl: Repl) -> None:
    repl.send("leaves\r")
    repl.expect("answer 1")
    repl.expect("left over")
    repl.send(" and more\r")
    repl.expect("answer 2")
    assert repl.asked() == ["leaves", "left over and more"]


def test_a_plan_that_was_drawn_is_edited_and_run(repl: Repl) -> None:
    repl.send("/plan edit\r")
    repl.expect("edited")
    repl.send("/run\r")
    repl.expect("ran the plan")
    repl.send("/run backup a=1\r")
    repl.expect("called run backup a=1")
    repl.send("/budget 0.5\r")
    repl.expect("budget 0.5")


def test_a_template_is_a_command_of_its_own(repl: Repl) -> None:
    repl.send("/help\r")
    repl.expect("/review  Review a file")
    repl.send("/review a.py\r")
    repl.expect("answer 1")
    assert repl.asked() == ["review of a.py"]


@pytest.mark.parametrize("typed", ["@sal", '@"sal', '@"sales r'])
def test_tab_completes_a_name_with_spaces_in_quotes(repl: Repl, typed: str) -> None:
    (repl.home / "sales reps.csv").write_text("a")
    repl.send(f"Sum up {typed}")
    repl.expect("sales reps.csv")  # in the menu
    repl.send("\t\r")
    repl.expect("answer 1")
    assert repl.asked() == ['Sum up @"sales reps.csv"']


@pytest.mark.parametrize(
    ("typed", "hint"), [("orch show last", "/show last"), ("orch memory list", "Ctrl-D")]
)
def test_a_command_of_the_shell_is_no_prompt(repl: Repl, typed: str, hint: str) -> None:
    repl.send(f"{typed}\r")
    repl.expect(hint)
    repl.send(f" {typed}\rorch is down\r")
    repl.expect("answer 2")
    assert repl.asked() == [typed, "orch is down"]


def test_tab_completes_what_follows_a_command(repl: Repl) -> None:
    repl.send("/show 2026")
    repl.expect("0101-000000-abcdef")  # in the menu
    repl.send("\t\r")
    repl.expect("called show 20260101-000000-abcdef")


TEXT = "Review a file\n\nLook at $1 first, then: $ARGUMENTS. $2$9"


@pytest.mark.parametrize(
    ("text", "words", "prompt"),
    [
        (TEXT, "'a b' c", "Review a file\n\nLook at a b first, then: 'a b' c. c"),
        (TEXT, "it's", "Review a file\n\nLook at it's first, then: it's."),
        ("Say hello.\n", "to $ARGUMENTS", "Say hello.\n\nto $ARGUMENTS"),
        ("Costs $100", "x", "Costs x00"),
    ],
)
def test_a_template_takes_what_follows_it(tmp_path: Path, text: str, words: str, prompt: str) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "review.md").write_text(text)
    (tmp_path / "prompts" / "No-Name.md").write_text(text)
    (tmp_path / "prompts" / "0123.txt").write_text(text)
    assert list(templates(tmp_path)) == ["review"]
    assert from_template(tmp_path, "review", words) == prompt


@pytest.mark.parametrize(
    ("columns", "shown"),
    [(99, "m · no model calls · /w · session s"), (30, "m · no model calls · /w"), (4, "m")],
)
def test_the_bottom_line_has_whole_parts(columns: int, shown: str) -> None:
    assert fitting("m · no model calls · /w · session s", columns) == shown


def test_ctrl_c_ends_the_wait_for_a_model_that_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()

    def names(*_: object) -> dict[str, str]:
        """As an import that swallows every interrupt."""
        while not free.is_set():
            with contextlib.suppress(KeyboardInterrupt):
                free.wait(0.1)
        return {}

    monkeypatch.setattr(LiveModels, "names", names)
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    stop = threading.Timer(5, free.set)
    timer.start()
    stop.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            names_of(Settings())
        assert not free.is_set()
    finally:
        stop.cancel()
        free.set()


def test_a_model_that_is_tried_is_named_at_once(orch: Orch) -> None:
    done = orch(stdin="/model nonsense/x\n/budget 0.5\n", ORCH_MODELS__ANSWER="")
    assert done.err.index("trying nonsense/x") < done.err.index("nonsense/x cannot be asked")
    assert "looking up prices" in done.err
