"""The interactive loop's session: runs its prompts and answers its slash commands."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from orchestrator_cli.admin.memory import MemoryAdmin
from orchestrator_cli.admin.tools import ToolAdmin
from orchestrator_cli.cli.chat.repl import run_repl
from orchestrator_cli.cli.chat.session import ChatSession
from orchestrator_cli.cli.chat.terminal_input import can_read_terminal, terminal_input
from orchestrator_cli.cli.commands.memory import about_session, fact_lines, hit_lines, session_lines
from orchestrator_cli.cli.detached import arguments_of, check_detach, start_detached, started_lines
from orchestrator_cli.cli.foreground import confirm_no_sandbox
from orchestrator_cli.cli.options import LimitOptions, Output, PermissionOptions, SessionOptions
from orchestrator_cli.cli.reporting import reporting, run_flags, run_settings
from orchestrator_cli.errors import Interrupted, OrchError, UsageError
from orchestrator_cli.events import Event
from orchestrator_cli.journal.journal import EventView
from orchestrator_cli.models.sources import LiveModels
from orchestrator_cli.orchestrator import plan_prompt, run_prompt
from orchestrator_cli.recall.run_memory import open_memory
from orchestrator_cli.recall.sessions import exchange_of
from orchestrator_cli.runs.feedback import Vote, give_feedback
from orchestrator_cli.runs.find import find_run
from orchestrator_cli.runs.verify import read_file_log
from orchestrator_cli.runtime import checked_prompt, open_run
from orchestrator_cli.same_folder import check_same
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState
from orchestrator_cli.values import Usage
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.filelog import EntryFilter, FileLog, entries_of, markdown_of, select_entries
from orchestrator_cli.views.graph import plan_lines
from orchestrator_cli.views.notifications import notifier
from orchestrator_cli.views.text import one_line, spent
from orchestrator_cli.views.tools import list_lines


def start_repl(
    output: Output,
    conversation: SessionOptions,
    permissions: PermissionOptions,
    *,
    workspace: Path | None,
    model: str | None,
    max_cost: float | None,
    unsafe_no_sandbox: bool,
    command: Callable[[list[str]], int],
) -> None:
    """Run the interactive loop until the user leaves. Raises `typer.Exit` with the exit code.

    `command` runs a command of the command line, and returns its exit code.
    """
    with reporting(output) as console:
        unsafe = confirm_no_sandbox(asked=unsafe_no_sandbox, yes=False)
        place = workspace or Path.cwd()  # what it is called now: a folder that is moved has another name
        flags = run_flags(LimitOptions(max_cost=max_cost), permissions)
        session = ReplSession(
            lambda chosen, mark: run_settings(place, asks=True, mark=mark, model=chosen or model, **flags),
            console,
            unsafe,
            command=command,
            arguments=arguments_of(permissions, model=model, max_cost=max_cost),
            name=conversation.session or "",
            goes_on=conversation.goes_on,
        )
        code = run_repl(session)
        if code != Interrupted.exit_code:
            session.leave()
        raise typer.Exit(code)


class ReplSession:
    """What one interactive loop is about: settings and screen stay, each prompt is a run of its own."""

    def __init__(
        self,
        load: Callable[[str, str], Settings],
        console: Console,
        unsafe: str = "",
        *,
        command: Callable[[list[str]], int],
        arguments: Sequence[str] = (),
        name: str = "",
        goes_on: bool = False,
    ) -> None:
        """Open the session that `name` and `goes_on` name, as in `ChatSession`. Raises `OrchError`.

        `load` reads the settings again, with another model if one is named, for the folder with a mark if
        there is one; `command` is as in `start_repl`.
        `unsafe` says how the user has allowed runs WITHOUT A SANDBOX; it is empty otherwise. `arguments` are
        the options of the loop, for runs in the background.
        """
        self._load = load
        self._settings = settings = load("", "")
        self._command = command
        self._spent = Usage()
        self._model = _planner(settings)
        self._unsafe = unsafe
        self._arguments = arguments
        self._console = console
        self._latest = _Latest()
        self._chat = ChatSession(settings, self._say, name=name, goes_on=goes_on)
        self.history_path = settings.home / "history"
        self._log = settings.workspace / "fileLog.md"
        if self._chat.exchanges:
            console.lines(about_session(self._chat.name, self._chat.exchanges))

    def ask(self, prompt: str) -> int:
        """Run a prompt and print what it comes to. Returns the exit code that `orch ask` would have."""
        text = checked_prompt(prompt, self._settings.home)
        views: list[EventView] = [self._file_log(), self._console, self._latest]
        views.append(notifier(self._settings, self._console.lines))
        try:
            with (
                open_run(
                    self._settings, views, attended=can_read_terminal(self._console), unsafe=self._unsafe
                ) as run,
                terminal_input(run.broker, self._console, takes_remarks=True),
            ):
                try:
                    result = run_prompt(text, run, self._chat.conversation())
                except OrchError:
                    self._chat.failed(run.masks(text), run.usage)
                    raise
                exchange = exchange_of(
                    result.run,
                    run.masks(text),
                    run.masks(result.plan),
                    run.masks(result.answer),
                    self._latest.state.files,
                )
        except OrchError as exc:
            self._console.error(exc)
            return exc.exit_code
        self._console.print_answer(result.answer)
        self._chat.add(exchange, result.usage)
        self._spent += result.usage
        return result.shortfall.exit_code if result.shortfall else 0

    def background(self, prompt: str) -> list[str]:
        """Run a prompt in the background. Raises `UsageError` without a sandbox."""
        check_detach(detach=True, unsafe=bool(self._unsafe))
        command = ("ask", "-", *self._arguments, f"--session={self._chat.name}")
        return started_lines(start_detached(self._settings, command, self._arguments, prompt))

    def command(self, arguments: list[str]) -> int:
        """Run a command of the command line in this workspace. Returns its exit code."""
        self._check_folder()
        # One of several commands, without its own name, has no options.
        folder = [] if arguments in (["schedule"], ["kb"]) else ["-C", str(self._settings.workspace)]
        return self._command([*arguments, *folder])

    def model(self, name: str) -> list[str]:
        """Lines about the models that are asked; with a name, ask that one from now on.

        Raises `ConfigError` if it cannot be asked; nothing is changed then.
        """
        settings = self._load(name, self._settings.origin.mark) if name else self._settings
        names = LiveModels().names(settings)
        if name:
            others = (one for one in self._arguments if not one.startswith("--model="))
            self._arguments = (*others, f"--model={name}")
            self._settings, self._model = settings, names["planner"]
        return [f"{role:<9} {one_line(model)}" for role, model in names.items()]

    def status(self) -> str:
        """The model, the folder, the session and what it has cost, in one line."""
        return " · ".join(
            (self._model, str(self._settings.workspace), f"session {self._chat.name}", spent(self._spent))
        )

    def plan(self, prompt: str) -> list[str]:
        text = checked_prompt(prompt, self._settings.home)
        self._console.lines(["planning …"])
        with open_run(self._settings, [], wants_engine=False) as run:
            return plan_lines(plan_prompt(text, run, self._chat.conversation()))

    def last_plan(self) -> list[str] | None:
        state = self._latest.state
        return plan_lines(state.plan) if state.has_plan else None

    def tools(self) -> list[str]:
        return list_lines(ToolAdmin(self._settings, warn=self._say).rows())

    def log_tail(self) -> str:
        """The section of fileLog.md about the last run."""
        self._check_folder()
        if not self._log.exists():
            return ""
        return markdown_of(select_entries(entries_of(read_file_log(self._log)), EntryFilter(run="last")))

    def feedback(self, vote: Vote, why: str) -> list[str]:
        """Say how the last run of this loop was. Raises `UsageError` before the first one."""
        if self._latest.state.finished is None:
            raise UsageError("There is no run yet.", "/good [WHY] and /bad [WHY] are about the last run.")
        self._check_folder()
        where = find_run(self._settings, self._latest.state.run)
        with contextlib.closing(open_memory(self._settings, self._say)) as memory:
            log = [self._file_log()]
            return [give_feedback(where, vote, why.strip().strip('"'), memory=memory, views=lambda: log)]

    def session(self, name: str) -> list[str]:
        """Lines about the session; with a name, switch to that one first."""
        if name:
            self._chat.switch(name)
        return about_session(self._chat.name, self._chat.exchanges)

    def sessions(self) -> list[str]:
        return session_lines(self._chat.all(), self._chat.name)

    def memory(self, text: str) -> list[str]:
        """Lines about what is remembered of the user; with a text, only what is related to it."""
        keeping = MemoryAdmin(self._settings, warn=self._say)
        return hit_lines(keeping.search(text, limit=10)) if text else fact_lines(keeping.facts())

    def _file_log(self) -> FileLog:
        return FileLog(self._log, self._settings.home, self._settings.origin.mark)

    def _check_folder(self) -> None:
        check_same(self._settings.workspace, self._settings.origin.mark)

    def _say(self, line: str) -> None:
        self._console.lines([line])

    def leave(self) -> None:
        """End the session, and remember facts about the user."""
        self._chat.leave()


def _planner(settings: Settings) -> str:
    """The model that plans; if there is none, why, and what helps first."""
    try:
        return LiveModels().names(settings)["planner"]
    except OrchError as exc:
        return f"{exc.message} {exc.remedy.partition(chr(10))[0]}".strip()


class _Latest:
    """The view that keeps the state of the run that began last, for `/plan` and for feedback."""

    def __init__(self) -> None:
        self.state = RunState()

    def __call__(self, event: Event, state: RunState) -> None:  # noqa: ARG002
        self.state = state

    def close(self) -> None:
        """Nothing is held open."""
