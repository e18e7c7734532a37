"""An option means the same before the command as after it, on every level, or is refused.

The tables are made from the command line itself, so that a new option or command is covered. Its
commands return what they are given instead of acting on it; the last tests run the real ones.
"""

import importlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import typer.main
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, answered, plan, tool_call
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from orchestrator_cli.cli import app as cli

Path = tuple[TyperCommand | TyperGroup, ...]
"""Commands from the outermost group down to the one that runs."""


def tree(command: Any, above: Path = ()) -> Iterator[Path]:
    """Every command there is, a group that runs without a command included; each returns its options."""
    command.callback = lambda **given: given
    path = (*above, command)
    if above:
        yield path
    for below in getattr(command, "commands", {}).values():
        yield from tree(below, path)


ORCH: Any = typer.main.get_command(cli.app)
ORCH.load(*cli.COMMANDS)
COMMANDS = list(tree(ORCH))


def options(command: TyperCommand | TyperGroup) -> dict[str, TyperOption]:
    """The options that a command is given, by their long spelling.

    Those that act as soon as they are read are left out: version, help, and completion, which would
    be installed for the person who runs the tests.
    """
    found = (one for one in command.params if isinstance(one, TyperOption))
    found = (one for one in found if one.expose_value and not one.is_eager)
    return {max(option.opts, key=len): option for option in found}


class Case(NamedTuple):
    """An option of one level, and the command that runs below it."""

    path: Path
    level: int
    flag: str

    @property
    def name(self) -> str:
        return " ".join(str(command.name) for command in self.path[1:])

    @property
    def option(self) -> TyperOption:
        return options(self.path[self.level])[self.flag]

    @property
    def shared(self) -> bool:
        return self.flag in options(self.path[-1])

    def given(self, value: str = "1", spelling: int = -1) -> list[str]:
        """The option as one types it; 1 is a number, a text and a folder."""
        typed = sorted(self.option.opts, key=len)[spelling]
        return [typed] if self.option.is_flag else [typed, value]

    def line(self, before: list[str], after: list[str]) -> list[str]:
        """A whole command line with options at the case's level and at the command."""
        names = [str(command.name) for command in self.path[1:]]
        return [*names[: self.level], *before, *names[self.level :], *after, *required(self.path[-1])]

    def __str__(self) -> str:
        return f"{' '.join(self.line([self.flag], [])[: len(self.path)])}".replace(" ", "_")


def required(command: TyperCommand | TyperGroup) -> list[str]:
    """What a command cannot do without."""
    found: list[str] = []
    for one in command.params:
        if one.required and isinstance(one, TyperOption):
            found = [one.opts[-1], "1", *found]
        elif one.required and isinstance(one, TyperArgument):
            found.append(str(next(iter(one.type_descriptor.choices or ()), "1")))
    return found


CASES = [
    Case(path, level, flag)
    for path in COMMANDS
    for level in range(len(path) - 1)
    for flag in options(path[level])
]
SHARED = [case for case in CASES if case.shared]
UNKNOWN = [case for case in CASES if not case.shared]


def parsed(line: list[str]) -> dict[str, Any]:
    """What the command of a line is given."""
    found: dict[str, Any] = ORCH(line, prog_name="orch", standalone_mode=False)
    return found


def refused(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message of a usage error."""
    with pytest.raises(SystemExit) as ended:
        ORCH(line, prog_name="orch")
    assert ended.value.code == 2
    return capsys.readouterr().err.partition("Error: ")[2]


def test_every_command_of_a_module_is_listed() -> None:
    for name, lazy in cli.COMMANDS.items():
        module = importlib.import_module(f"orchestrator_cli.cli.commands.{lazy.module}")
        commands = (
            {name}
            if name in cli.GROUPS
            else {one.name or one.callback.__name__ for one in module.app.registered_commands}
        )
        assert {name for name, one in cli.COMMANDS.items() if one.module == lazy.module} == commands


@pytest.mark.parametrize("name", cli.GROUPS)
def test_a_group_alone_is_no_usage_error(name: str) -> None:
    app: Any = typer.main.get_command(cli.app)
    app.load(name)
    group = app.commands[name]
    assert group.invoke_without_command
    assert name == "notify" or "Without a command" in group.help or name == "log"


@pytest.mark.parametrize("path", [(ORCH,), *(path for path in COMMANDS if hasattr(path[-1], "commands"))])
def test_help_of_a_group_has_whole_sentences_at_80_columns(path: Path) -> None:
    context: Any = path[-1].make_context("orch", [], resilient_parsing=True, terminal_width=80)
    *_, listed = path[-1].get_help(context).partition("Commands:")
    assert listed
    assert "..." not in listed
    assert max(map(len, listed.splitlines())) <= 80


@pytest.mark.parametrize("path", COMMANDS)
def test_a_missing_argument_is_explained(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needed = [one for one in path[-1].params if isinstance(one, TyperArgument) and one.required]
    if needed:
        line = [str(one.name) for one in path[1:]]
        assert str(needed[0].help) in refused(line, capsys)


def test_the_table_has_every_level() -> None:
    found = {(case.name, case.level, case.flag) for case in SHARED}
    assert {
        ("ask", 0, "--max-cost"),
        ("undo", 0, "--workspace"),
        ("memory", 0, "--workspace"),
        ("memory list", 0, "--workspace"),
        ("memory list", 1, "--workspace"),
        ("tools build", 0, "--model"),
        ("log verify", 1, "--json"),
    } <= found


@pytest.mark.parametrize("case", SHARED, ids=str)
def test_an_option_is_the_same_before_the_command(case: Case) -> None:
    after = parsed(case.line([], case.given()))
    assert after != parsed(case.line([], []))
    for spelling in range(len(case.option.opts)):
        assert parsed(case.line(case.given(spelling=spelling), [])) == after


@pytest.mark.parametrize("case", SHARED, ids=str)
def test_an_option_may_be_given_twice_if_it_says_the_same(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = parsed(case.line(case.given(), case.given()))
    assert twice == parsed(case.line([], case.given()))
    if not case.option.is_flag:
        message = refused(case.line(case.given("1"), case.given("2")), capsys)
        assert case.flag in message
        one, other = (case.option.type_descriptor.annotation(value) for value in "12")
        assert f"as '{one}' and as '{other}'" in message


@pytest.mark.parametrize("case", UNKNOWN, ids=str)
def test_an_option_that_the_command_does_not_have_is_refused(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(case.line(case.given(), []), capsys)
    assert case.flag in message
    assert f"given before '{case.name}', which has no such option" in message


def test_options_of_every_kind_hold_together() -> None:
    before = "-m X --max-cost 0.01 --approve plan -C dir --session s -c -v -y --debug --allow-unpriced"
    line = [*before.split(), "--unsafe-no-sandbox", "ask", "--max-calls", "3", "Why?"]
    given = parsed(line)
    assert given == parsed(["ask", *before.split(), "--unsafe-no-sandbox", "--max-calls", "3", "Why?"])
    assert (given["model"], given["max_cost"], given["max_calls"]) == ("X", 0.01, 3)
    assert given["yes"] is given["debug"] is given["unsafe_no_sandbox"] is True


def test_a_value_is_compared_and_not_its_spelling() -> None:
    assert parsed(["--max-cost", "1", "ask", "--max-cost", "1.0", "Why?"])["max_cost"] == 1.0


@pytest.mark.parametrize("args", [["--max-cost=nan", "ask", "Go."], ["ask", "--max-cost=nan", "Go."]])
def test_what_is_no_number_is_not_given_twice(orch: Orch, args: list[str]) -> None:
    done = orch(*args)
    assert done.code == 3
    assert "max_cost" in done.error


def test_options_of_several_levels_conflict(capsys: pytest.CaptureFixture[str]) -> None:
    assert "as 'a' and as 'b'" in refused(["-C", "a", "memory", "-C", "b", "list"], capsys)


def test_other_faults_of_the_line_are_said_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such command 'biuld'" in refused(["-m", "X", "tools", "biuld"], capsys)
    assert "orch ask" in refused(["Fix the bug"], capsys)
    assert "Invalid value for '--max-cost'" in refused(["--max-cost", "1", "ask", "--max-cost", "x"], capsys)


# --- the real commands


def test_help_and_version_are_shown_whatever_else_is_given(orch: Orch) -> None:
    done = orch("--max-cost", "1", "runs", "--help")
    assert (done.code, "--limit" in done.out) == (0, True)
    assert orch("-m", "X", "--version", "runs").out.startswith("orch ")


def test_undo_of_another_folder_leaves_this_one_alone(orch: Orch, endpoint: Endpoint) -> None:
    other = orch.home.parent / "other"
    other.mkdir()
    note = plan(tool_call("note", "write_file", path="note.txt", content="noted"))
    endpoint.reply = Cast(planner=[note, note])
    assert orch("-C", str(other), "ask", "Note it.").code == 0
    assert (other / "note.txt").exists()
    assert orch.files() == []
    assert orch("ask", "Note it.").code == 0
    done = orch("-C", str(other), "undo", "last")
    assert done.code == 0, done.err
    assert not (other / "note.txt").exists()
    assert orch.files() == ["note.txt"]


def test_a_question_goes_to_the_model_named_before_it(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = lambda *_: answered("Four.")
    before = ("-m", "openai/mine", "--max-cost", "0.01", "--session", "sums")
    refused = orch(*before, "ask", "What is two and two?", ORCH_MODELS__PLANNER="")
    assert "The limit of $0.01 cannot hold" in refused.error
    assert "openai/mine" in refused.error
    assert endpoint.exchanges == []
    allowed = orch(*before, "--allow-unpriced", "ask", "What is two and two?", ORCH_MODELS__PLANNER="")
    assert (allowed.code, allowed.out) == (0, "Four.\n"), allowed.err
    assert {exchange.model for exchange in endpoint.exchanges} == {"mine"}
    assert "sums" in orch("memory", "list").out


def test_a_limit_before_the_command_that_has_none_runs_nothing(orch: Orch) -> None:
    done = orch("--max-cost", "1", "runs")
    assert (done.code, done.out) == (2, "")
    assert "'--max-cost' was given before 'runs', which has no such option." in done.err


@pytest.mark.parametrize("name", ["config", "kb", "memory", "notify", "schedule", "scripts", "tools"])
def test_a_group_alone_ends_well(orch: Orch, name: str) -> None:
    done = orch(name)
    assert (done.code, "Usage: " in done.err) == (0, False)
