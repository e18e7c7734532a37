"""The interactive loop: prompts and slash commands, one after the other, until Ctrl-D.

`ReplActions` does what they ask, and the views show the runs. The loop itself writes to standard error,
because only answers belong on standard output.

On a terminal, Enter submits; Alt-Enter, or a backslash before Enter, starts a new line; pasted lines stay
together; Ctrl-C clears the line or ends the current run, and never the loop. Otherwise every line of the
input is a prompt, and Ctrl-C ends everything.

What is typed during a run is read by `terminal_input`: it is a remark or an answer.
"""

import difflib
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TextIO

from orchestrator_cli.cli.chat.in_loop import as_typed_here
from orchestrator_cli.cli.chat.prompt_line import Prompted, TypedLines
from orchestrator_cli.cli.command_list import COMMANDS as OF_THE_SHELL
from orchestrator_cli.errors import Interrupted, OrchError, UsageError
from orchestrator_cli.views.streams import show_page, wrapped, write
from orchestrator_cli.views.text import one_line


class ReplActions(Prompted, Protocol):
    """What the loop can do. Every method may raise `OrchError`, which is shown."""

    def ask(self, prompt: str, pasted: Sequence[str] | None) -> int:
        """Run the prompt and show what it does. Returns the exit code of the run.

        `pasted`: the texts that were pasted into it; None if it was not typed at all.
        """
        ...

    def background(self, prompt: str, pasted: Sequence[str] | None) -> list[str]:
        """Run the prompt in the background. Returns lines about how to watch it."""
        ...

    def attach(self, names: list[str]) -> list[str]:
        """Attach files to the next prompt. Returns a line for each that waits for it."""
        ...

    def plan(self, prompt: str, pasted: Sequence[str] | None) -> list[str]:
        """The graph of the prompt's plan as lines. Runs nothing."""
        ...

    def command(self, arguments: list[str]) -> int:
        """Run a command of the command line in this workspace. Returns its exit code."""
        ...

    def model(self, name: str) -> list[str]:
        """Lines about the models that are asked; with a name, ask that one from now on."""
        ...

    def budget(self, dollars: str) -> list[str]:
        """Lines about what a prompt may cost; with a number, what it may cost from now on; or `off`."""
        ...

    def run_planned(self) -> int:
        """Run the plan that `plan` has drawn last. Returns the exit code of the run."""
        ...

    def edit_planned(self) -> list[str]:
        """Have the user edit that plan. Returns its graph as lines."""
        ...

    def templates(self) -> Mapping[str, str]:
        """The user's own slash commands, each with what it does."""
        ...

    def from_template(self, name: str, words: str) -> str:
        """The prompt that one of them makes of what follows it."""
        ...

    def last_plan(self) -> list[str] | None:
        """The graph of the last run as lines; None before the first run."""
        ...

    def tools(self) -> list[str]:
        """Lines about every built tool: what it does, its state, and how its uses went."""
        ...

    def log_tail(self) -> str:
        """The section of the last run in `fileLog.md`, as Markdown; empty before the first run."""
        ...

    def feedback(self, vote: Literal["good", "bad"], why: str) -> list[str]:
        """Say how the last run was. Returns lines about what that changes."""
        ...

    def session(self, name: str) -> list[str]:
        """Lines about the session; with a name, switch to that one first."""
        ...

    def sessions(self) -> list[str]:
        """A line about every session of the workspace, newest first."""
        ...

    def memory(self, text: str) -> list[str]:
        """Lines about what is remembered of the user; with a text, only what is related to it."""
        ...


def run_repl(actions: ReplActions, *, input: TextIO | None = None, output: TextIO | None = None) -> int:  # noqa: A002
    """Read and act until the end of the input or `/quit`.

    `input` defaults to standard input and `output` to standard error. Returns 0 on a terminal; otherwise the
    exit code of the first run that failed, so that a script notices.
    """
    source, sink = input or sys.stdin, output or sys.stderr
    if source.isatty():
        meanings = MEANINGS | {f"/{name}": what for name, what in actions.templates().items()}
        _Loop(actions, sink).run(TypedLines(actions, meanings, source, sink), resilient=True)
        return 0
    return _Loop(actions, sink).run((line.rstrip("\r\n") for line in source), resilient=False)


class Command(NamedTuple):
    name: str
    usage: str
    help: str
    run: Callable[["_Loop", str], None]


class _Quit(Exception):
    """The user asked to leave."""


class _Loop:
    """Acts on one line after the other and remembers the first failure."""

    def __init__(self, actions: ReplActions, sink: TextIO) -> None:
        self._actions = actions
        self._sink = sink
        self._first_failure = 0
        self._pasted: Sequence[str] | None = None

    def run(self, lines: Iterator[str], *, resilient: bool) -> int:
        """With `resilient`, Ctrl-C ends the current action, not the loop."""
        self._pasted = lines.pasted if isinstance(lines, TypedLines) else None
        while True:
            try:
                self._do(next(lines))
            except (StopIteration, _Quit):
                return self._first_failure
            except OrchError as exc:
                self._failed(exc.exit_code)
                message, *remedy = str(exc).split("\n")
                self.say(f"error: {message}", *(f"  {as_typed_here(line)}" for line in remedy))
            except KeyboardInterrupt:
                if not resilient:
                    return Interrupted.exit_code
                self.say("", "Interrupted. Ctrl-D leaves.")

    def say(self, *lines: str) -> None:
        write(self._sink, "".join(f"{line}\n" for line in wrapped(lines, self._sink)))

    def _do(self, line: str) -> None:
        if line.strip().lower() in PLAIN:
            line = f"/{line.strip().lower()}"
        if line.startswith("/"):
            name, _, rest = line[1:].replace("\n", " \n", 1).partition(" ")
            self._command(name.strip())(self, rest.strip())
        elif line.strip():
            _check_is_no_command(line)
            self._failed(self._actions.ask(line.strip(), self._pasted))

    def _command(self, name: str) -> Callable[["_Loop", str], None]:
        """Raises `UsageError` that suggests the nearest command."""
        found = {command.name: command.run for command in COMMANDS}
        if name in OF_THE_COMMAND_LINE:
            return lambda loop, rest: loop.command(name, rest)
        templates = self._actions.templates() if name not in found else {}
        if name in templates:
            return lambda loop, rest: loop.template(name, rest)
        if name not in found:
            known = [*found, *OF_THE_COMMAND_LINE, *templates]
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"Did you mean /{near[0]}? " if near else ""
            remedy = f"{hint}/help lists the commands. A prompt may begin with / after a space."
            raise UsageError(f"There is no command /{one_line(name, 40)}.", remedy)
        return found[name]

    def _failed(self, exit_code: int) -> None:
        self._first_failure = self._first_failure or exit_code

    # --- the commands

    def command(self, name: str, rest: str) -> None:
        """Run a command of the command line; one about a run is about the last one if none is named.

        `/run` alone runs the plan that was drawn.
        """
        arguments = _words(name, rest)
        if name == "run" and not arguments:
            self._failed(self._actions.run_planned())
            return
        if name in ABOUT_A_RUN and not any(not one.startswith("-") for one in arguments):
            arguments.append("last")
        self._failed(self._actions.command([name, *arguments]))

    def template(self, name: str, words: str) -> None:
        """Run the prompt that one of the user's own commands makes of these words."""
        prompt = self._actions.from_template(name, words)
        # What is not of these words was not typed.
        pasted = None if self._pasted is None else [*self._pasted, prompt.replace(words, "")]
        self._failed(self._actions.ask(prompt, pasted))

    def file(self, names: str) -> None:
        self.say(*self._actions.attach(_words("file", names)))

    def model(self, name: str) -> None:
        self.say(*self._actions.model(name))

    def cost(self, _: str) -> None:
        self.say(self._actions.status())

    def clear(self, _: str) -> None:
        write(self._sink, CLEAR if self._sink.isatty() else "")

    def plan(self, prompt: str) -> None:
        if prompt == "edit":
            lines: list[str] | None = self._actions.edit_planned()
        else:
            lines = self._actions.plan(prompt, self._pasted) if prompt else self._actions.last_plan()
        self.say(*(lines if lines is not None else ["No plan yet. /plan PROMPT draws one, /run runs it."]))

    def budget(self, dollars: str) -> None:
        self.say(*self._actions.budget(dollars))

    def background(self, prompt: str) -> None:
        self.say(*self._actions.background(prompt, self._pasted))

    def tools(self, _: str) -> None:
        self.say(*(self._actions.tools() or ["No tools yet: they are built when a plan needs them."]))

    def good(self, why: str) -> None:
        self.say(*self._actions.feedback("good", why))

    def bad(self, why: str) -> None:
        self.say(*self._actions.feedback("bad", why))

    def session(self, name: str) -> None:
        self.say(*self._actions.session(name))

    def sessions(self, _: str) -> None:
        self.say(*self._actions.sessions())

    def memory(self, text: str) -> None:
        self.say(*self._actions.memory(text))

    def log(self, _: str) -> None:
        show_page(self._actions.log_tail().rstrip("\n") or "No run yet.", self._sink)

    def help(self, _: str) -> None:
        width = max(len(command.usage) for command in COMMANDS)
        self.say(
            "Type what you want done; Enter runs it. Alt-Enter, or \\ before Enter, starts a new line.",
            *(f"  {command.usage:<{width}}  {command.help}" for command in COMMANDS),
            f"As on the command line: {', '.join(f'/{name}' for name in OF_THE_COMMAND_LINE)}.",
            *(f"  /{name}  {what}" for name, what in self._actions.templates().items()),
            "@ before the name of a file attaches it. help, clear, exit and quit need no slash.",
            "What you type during a run is a remark to it, or the answer to its question.",
            "Ctrl-C clears the line or ends the current run; twice at an empty line, or Ctrl-D, leaves.",
        )

    def quit(self, _: str) -> None:
        raise _Quit


def _check_is_no_command(line: str) -> None:
    """Raise `UsageError` if a line that would be a prompt is a command of the shell, copied from a hint."""
    program, _, rest = line.partition(" ")
    name, _, more = rest.partition(" ")
    if program != "orch" or name not in OF_THE_SHELL:
        return
    here = f"Here it is /{name} {more}".rstrip() if name in OF_THE_COMMAND_LINE else "Leave with Ctrl-D first"
    raise UsageError(
        f"orch {name} is a command of your shell, and no prompt.",
        f"{here}. With a space before it, it is a prompt.",
    )


def _words(name: str, rest: str) -> list[str]:
    """What follows a command, as a shell reads it. Raises `UsageError`."""
    try:
        return shlex.split(rest)
    except ValueError as exc:
        raise UsageError(f"/{name} cannot be read: {exc}.", "Close the quotation marks.") from exc


COMMANDS = (
    Command(
        "plan",
        "/plan [PROMPT]",
        "draw the plan for a prompt, or the last one; /plan edit changes it, /run runs it",
        _Loop.plan,
    ),
    Command("bg", "/bg PROMPT", "run a prompt in the background while you continue here", _Loop.background),
    Command("file", "/file NAME...", "attach files to the next prompt", _Loop.file),
    Command("tools", "/tools", "list the built tools and their state", _Loop.tools),
    Command("log", "/log", "show what fileLog.md says about the last run", _Loop.log),
    Command("good", "/good [WHY]", "say that the last run was good; its plan may be used again", _Loop.good),
    Command("bad", "/bad [WHY]", "say that the last run was bad, and why; planners are warned", _Loop.bad),
    Command("session", "/session [NAME]", "show which session this is, or switch to another", _Loop.session),
    Command("sessions", "/sessions", "list the sessions of this workspace", _Loop.sessions),
    Command(
        "memory",
        "/memory [TEXT]",
        "show what is remembered of you, or what is related to a text",
        _Loop.memory,
    ),
    Command("model", "/model [NAME]", "show which model is asked, or ask another from now on", _Loop.model),
    Command(
        "cost",
        "/cost",
        "show the model, the folder, the session, and the cost of all runs here",
        _Loop.cost,
    ),
    Command(
        "budget",
        "/budget [DOLLARS]",
        "show or set what each prompt may cost; off removes the limit",
        _Loop.budget,
    ),
    Command("clear", "/clear", "clear the screen", _Loop.clear),
    Command("help", "/help", "show this list", _Loop.help),
    Command("quit", "/quit", "leave, as Ctrl-D does", _Loop.quit),
    Command("exit", "/exit", "leave, as /quit does", _Loop.quit),
)
OF_THE_COMMAND_LINE = {
    "runs": "list the runs of this workspace",
    "show": "show a run: its graph, changes, agents and cost",
    "stats": "summarize the runs of the last weeks",
    "resume": "resume a run",
    "attach": "watch a run in the background, and answer it",
    "approve": "list the questions of a run, or answer them",
    "cancel": "end a run for good",
    "undo": "restore the workspace as it was before a run; by default the last that changed files",
    "diff": "show what a run changed; by default the last that changed files",
    "fork": "start a new run from the finished part of another",
    "run": "run the plan that /plan has drawn, or one of your processes",
    "roles": "list the roles that agents are made from",
    "schedule": "manage runs that start by themselves",
    "kb": "manage the documents that agents can search",
    "trust": "show what this folder asks for, and allow it",
    "doctor": "check that everything orch needs is there",
    "ui": "open the page that shows runs as they go",
}
"""Commands that the loop takes as the command line does, with what they are for."""
ABOUT_A_RUN = frozenset({"show", "resume", "attach", "approve", "cancel", "undo", "diff"})
PLAIN = frozenset({"exit", "quit", "clear", "help"})
"""Lines that no one means as a prompt."""
CLEAR = "\x1b[H\x1b[2J"
MEANINGS = {f"/{command.name}": command.help for command in COMMANDS} | {
    f"/{name}": meaning for name, meaning in OF_THE_COMMAND_LINE.items()
}
"""What each slash command does."""
