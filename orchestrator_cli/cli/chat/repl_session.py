"""What the interactive loop asks of the rest: run a prompt, plan one, show tools and log."""

import contextlib

from orchestrator_cli.admin.memory import MemoryKeeping
from orchestrator_cli.admin.tools import Keeping
from orchestrator_cli.cli.chat.session import Sitting
from orchestrator_cli.cli.chat.terminal_input import can_listen, listening
from orchestrator_cli.cli.commands.memory_output import about_session, fact_lines, hit_lines, session_lines
from orchestrator_cli.cli.editor import edit
from orchestrator_cli.errors import OrchError, UsageError
from orchestrator_cli.events import Event
from orchestrator_cli.journal.journal import View
from orchestrator_cli.orchestrator import plan_prompt, run_prompt
from orchestrator_cli.recall.run_memory import open_memory
from orchestrator_cli.recall.sessions import exchange_of
from orchestrator_cli.runs.feedback import Vote, give_feedback
from orchestrator_cli.runs.find import find_run
from orchestrator_cli.runtime import checked_prompt, open_run
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.filelog import FileLog
from orchestrator_cli.views.graph import plan_lines
from orchestrator_cli.views.reading import Wanted, chosen, entries_of, markdown_of
from orchestrator_cli.views.tools import list_lines


class ReplSession:
    """The session of one REPL: settings and screen stay, each prompt is a run of its own."""

    def __init__(
        self,
        settings: Settings,
        console: Console,
        unsafe: str = "",
        *,
        name: str = "",
        goes_on: bool = False,
    ) -> None:
        """`unsafe`: how the user has allowed to run WITHOUT A SANDBOX; empty where there is one.

        `name` and `goes_on` say which session it is, as in `Sitting`. Raises `OrchError`.
        """
        self._settings = settings
        self._unsafe = unsafe
        self._console = console
        self._latest = _Latest()
        self._sitting = Sitting(settings, self._say, name=name, goes_on=goes_on)
        self.history_path = settings.home / "history"
        self._log = settings.workspace / "fileLog.md"
        if self._sitting.exchanges:
            console.lines(about_session(self._sitting.name, self._sitting.exchanges))

    def ask(self, prompt: str) -> int:
        """Run a prompt; the views print by themselves. Returns the exit code a one-shot run would have."""
        text = checked_prompt(prompt, self._settings.home)
        views: list[View] = [FileLog(self._log, self._settings.home), self._console, self._latest]
        try:
            with (
                open_run(
                    self._settings, views, attended=can_listen(self._console), unsafe=self._unsafe
                ) as run,
                listening(run.broker, self._console, edit=edit, interjecting=True),
            ):
                try:
                    result = run_prompt(text, run, self._sitting.conversation())
                except OrchError:
                    self._sitting.failed(run.masks(text), run.usage)
                    raise
                said = exchange_of(
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
        self._sitting.add(said, result.usage)
        return result.shortfall.exit_code if result.shortfall else 0

    def plan(self, prompt: str) -> list[str]:
        text = checked_prompt(prompt, self._settings.home)
        self._console.lines(["planning …"])
        with open_run(self._settings, [], wants_engine=False) as run:
            return plan_lines(plan_prompt(text, run, self._sitting.conversation()))

    def last_plan(self) -> list[str] | None:
        state = self._latest.state
        return plan_lines(state.plan) if state.has_plan else None

    def tools(self) -> list[str]:
        return list_lines(Keeping(self._settings).rows())

    def log_tail(self) -> str:
        """What fileLog.md says about the last run."""
        if not self._log.is_file():
            return ""
        return markdown_of(chosen(entries_of(self._log.read_bytes()), Wanted(run="last")))

    def feedback(self, vote: Vote, why: str) -> list[str]:
        """Say how the last run of this sitting was. Raises `UsageError` before the first."""
        if self._latest.state.finished is None:
            raise UsageError("No run yet.", "What you say is about the last run: /good [WHY] or /bad [WHY].")
        where = find_run(self._settings, self._latest.state.run)
        with contextlib.closing(open_memory(self._settings, lambda _: None)) as memory:
            log = [FileLog(self._log, self._settings.home)]
            return [give_feedback(where, vote, why.strip().strip('"'), memory=memory, views=lambda: log)]

    def session(self, name: str) -> list[str]:
        """Which session it is; with a name, that one from now on."""
        if name:
            self._sitting.switch(name)
        return about_session(self._sitting.name, self._sitting.exchanges)

    def sessions(self) -> list[str]:
        return session_lines(self._sitting.all(), self._sitting.name)

    def memory(self, text: str) -> list[str]:
        """What is remembered of the user; with a text, what has to do with it."""
        keeping = MemoryKeeping(self._settings)
        return hit_lines(keeping.search(text, limit=10)) if text else fact_lines(keeping.facts())

    def leave(self) -> None:
        """The session is over: what the user said of themselves is remembered."""
        self._sitting.leave()

    def _say(self, line: str) -> None:
        self._console.lines([line])


class _Latest:
    """The view that keeps the state of the run that began last, for `/plan` and for feedback."""

    def __init__(self) -> None:
        self.state = RunState()

    def __call__(self, event: Event, state: RunState) -> None:  # noqa: ARG002
        self.state = state

    def close(self) -> None:
        """Nothing is held open."""
