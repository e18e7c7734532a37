"""A run in the foreground, new or resumed: what it prints, and the error that becomes its exit code."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator_cli.approvals.deadlines import Patience
from orchestrator_cli.cli.chat.in_loop import loop_input
from orchestrator_cli.cli.chat.learning import FactFinder
from orchestrator_cli.cli.chat.session import ChatSession
from orchestrator_cli.cli.chat.terminal_input import can_read_terminal, terminal_input
from orchestrator_cli.cli.options import Output
from orchestrator_cli.cli.pictures import draw_images
from orchestrator_cli.errors import ApprovalNeeded, Interrupted, OrchError, RunFailed, UsageError
from orchestrator_cli.events import Event, RunFinished
from orchestrator_cli.execution.run import Run
from orchestrator_cli.execution.tool_registry import tool_to_build
from orchestrator_cli.journal.journal import EventView
from orchestrator_cli.models.sources import LiveModels, ModelSource
from orchestrator_cli.orchestrator import (
    RunResult,
    build_one,
    resume_run,
    run_plan,
    run_prompt,
)
from orchestrator_cli.plan import Plan
from orchestrator_cli.recall.sessions import exchange_of
from orchestrator_cli.runs.background import BackgroundRun, background_of
from orchestrator_cli.runs.find import PastRun, check_is_same
from orchestrator_cli.runtime import checked_prompt, open_run
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import fold
from orchestrator_cli.values import NO_OPTIONS, PromptOptions
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.envelope import Envelope, envelope_of
from orchestrator_cli.views.filelog import FileLog
from orchestrator_cli.views.outside import outside_views
from orchestrator_cli.views.streams import JsonLines
from orchestrator_cli.workspace import check_folder

NO_SANDBOX_FLAG = "--unsafe-no-sandbox"
NO_SANDBOX_WARNING = (
    "NO SANDBOX: code that a model wrote will run with all your rights. It can read, change and delete\n"
    "everything that you can, including your keys and other folders, and send it anywhere."
)


def confirm_no_sandbox(*, asked: bool, yes: bool) -> str:
    """How the user has allowed a run without a sandbox; empty if they did not ask for one.

    A person allows it each time; no setting does. On a terminal it has to be typed, also with `-y`. Raises
    `ApprovalNeeded` without a terminal and without `yes`, and `UsageError` if the answer is no.
    """
    if not asked:
        return ""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        if yes:
            return f"{NO_SANDBOX_FLAG} with -y"
        raise ApprovalNeeded(
            f"{NO_SANDBOX_FLAG} has to be confirmed, and there is no terminal to ask on.",
            "Add -y to confirm it: code written by a model then has all your rights.",
        )
    sys.stderr.write(f"{NO_SANDBOX_WARNING}\nType yes to go on: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() != "yes":
        raise UsageError("It was not confirmed, so nothing was run.", f"Leave {NO_SANDBOX_FLAG} out.")
    return f"{NO_SANDBOX_FLAG}, confirmed at the terminal"


@dataclass(frozen=True)
class ForegroundRun:
    """A run about to start or resume, with what the command line says about it."""

    settings: Settings
    output: Output
    console: Console
    source: ModelSource = field(default_factory=LiveModels)
    unsafe: str = ""
    run: str = ""
    """The id of a run to resume, or of a new one if it was chosen before."""
    patience: Patience | None = None
    """How long questions are open without a terminal; if None, as the run was started."""

    def ask(self, prompt: str, options: PromptOptions = NO_OPTIONS, *, learns: bool = False) -> None:
        """Run a prompt and print the answer. Raises `OrchError`, also if a part of the work failed.

        If it `learns`, what the prompt asks to remember is remembered when the run has ended.
        """
        ended: list[Run] = []

        def begin(views: list[EventView]) -> RunResult:
            text = checked_prompt(prompt, self.settings.home)
            with self._open(views) as opened:
                try:
                    result = run_prompt(text, opened, options=options)
                except Interrupted:
                    raise
                except OrchError:
                    ended.append(opened)
                    raise
                ended.append(opened)
                return result

        try:
            self._show(begin)
        finally:
            for run in ended if learns else ():
                self._learn_from(run)

    def _learn_from(self, run: Run) -> None:
        """Remember what the prompt of a run asks to remember, unless a schedule began it."""
        if not run.state.occasion:
            finder = FactFinder(self.settings, lambda line: self.console.lines([line]))
            said = [run.masks(run.state.said)]
            finder.learn(said, ref=f"run {run.id}", used=run.usage, only_if_asked=True)

    def ask_in_session(
        self, prompt: str, options: PromptOptions = NO_OPTIONS, *, name: str, goes_on: bool
    ) -> None:
        """Run a prompt in a session, and remember facts about the user when it ends."""
        text = checked_prompt(prompt, self.settings.home)
        check_folder(self.settings.workspace)
        session = ChatSession(
            self.settings, lambda line: self.console.lines([line]), name=name, goes_on=goes_on
        )

        def begin(views: list[EventView]) -> RunResult:
            with self._open(views) as opened:
                try:
                    result = run_prompt(text, opened, session.conversation(), options)
                except Interrupted:
                    raise  # A user who wants to leave does not wait for what is to be remembered.
                except OrchError:
                    session.failed(opened.masks(opened.state.said or text), opened.usage)
                    raise
                exchange = exchange_of(opened.state, result.answer, opened.masks)
            session.add(exchange, result.usage)
            return result

        try:
            self._show(begin)
        finally:
            session.leave()

    def build(self, purpose: str, name: str) -> None:
        """Build one tool and print which it is. Without a name, its name is made from its purpose."""

        def begin(views: list[EventView]) -> RunResult:
            tool = tool_to_build(checked_prompt(purpose, self.settings.home), name, self.settings.home)
            with self._open(views) as opened:
                return build_one(tool, opened)

        self._show(begin)

    def carry_out(self, prompt: str, plan: Plan) -> None:
        """Carry out a plan and end as `ask` does; `prompt` says what it is for."""

        def begin(views: list[EventView]) -> RunResult:
            with self._open(views) as opened:
                return run_plan(prompt, plan, opened)

        self._show(begin)

    def resume(self, past: PastRun, limits: Mapping[str, Any], changed: str | None = None) -> None:
        """Resume a run and end as `ask` does. `limits` and `changed` are as in `resume_run`."""

        def begin(views: list[EventView]) -> RunResult:
            with self._open(views, resumed=past.run) as opened:
                check_is_same(past, f"orch resume {past.run}", opened.workspace.fd)
                return resume_run(opened, limits, changed)

        self._show(begin)

    def show_again(self, found: Sequence[Event], end: RunFinished) -> None:
        """Print the outcome of a finished run again. Raises `OrchError` as the run did.

        Its last process may have been killed before it wrote the end of the run into the log.
        """
        self._file_log().catch_up(found)
        message, _, remedy = (end.error or "").partition("\n")
        state = fold(found)
        if self.output.as_json:
            self.console.print_envelope(envelope_of(state))
        elif not self.output.stream_json:
            self.console.print_answer(end.answer, is_data=state.answer_schema is not None)
        if end.exit_code:
            raise RunFailed(message, remedy)

    def _show(self, begin: Callable[[list[EventView]], RunResult]) -> None:
        output, envelope = self.output, Envelope()
        error: OrchError | None = None
        try:
            views: list[EventView] = [self._file_log(), self.console, envelope]
            views += outside_views(self._notified, self.console.lines)
            if output.stream_json:
                views.append(JsonLines(sys.stdout))
            result = begin(views)
            error = result.shortfall
        except OrchError as exc:
            error = exc
            raise
        finally:
            if output.as_json:
                self.console.print_envelope(envelope.result(error))
        if not (output.as_json or output.stream_json):
            self.console.print_answer(result.answer, is_data=result.is_data)
            draw_images(self.console, self.settings)
        if error is not None:
            raise error

    @property
    def _background(self) -> BackgroundRun | None:
        """How the run was started, if it is in the background, or was when it began."""
        if not self.run:
            return None
        return background_of(PastRun(self.run, self.settings.home, self.settings.workspace))

    @property
    def _notified(self) -> Settings:
        """The settings, with what the schedule says of notifications."""
        about = self._background
        if about is None or about.notify is None:
            return self.settings
        notify = self.settings.notify.model_copy(update={"on": about.notify})
        return self.settings.model_copy(update={"notify": notify})

    def _file_log(self) -> FileLog:
        """The log of the workspace. Raises `UsageError` if the workspace is not a folder."""
        check_folder(self.settings.workspace)
        return FileLog(self.settings.workspace / "fileLog.md", self.settings.home, self.settings.origin.mark)

    @contextlib.contextmanager
    def _open(self, views: list[EventView], resumed: str = "") -> Iterator[Run]:
        past = PastRun(resumed or self.run, self.settings.home, self.settings.workspace)
        about = background_of(past) if past.run else None
        loop = loop_input()
        unfinished: Callable[[], str] = str
        try:
            with (
                open_run(
                    self.settings,
                    views,
                    source=self.source,
                    named=self.run if not resumed else "",
                    occasion=about.occasion if about and not resumed else "",
                    resumed=resumed,
                    attended=can_read_terminal(self.console),
                    patience=self.patience or (about.patience if about else None),
                    unsafe=self.unsafe,
                ) as opened,
                terminal_input(opened.broker, self.console, takes_remarks=loop is not None) as unfinished,
            ):
                yield opened
        except OrchError:
            if loop is not None:
                loop.keep((), unfinished(), lambda _: None)  # a resumed run reads the remarks
            raise
        if loop is not None:
            loop.keep(self.console.state.unread, unfinished(), lambda line: self.console.lines([line]))
