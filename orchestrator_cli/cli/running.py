"""One run with its views, new or gone on with: what it prints, and the error that becomes its exit code."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from orchestrator_cli.cli.options import Output
from orchestrator_cli.errors import Interrupted, OrchError, RunFailed, UsageError

if TYPE_CHECKING:
    from orchestrator_cli.events import Event, RunFinished
    from orchestrator_cli.execution.run import Run
    from orchestrator_cli.journal.journal import View
    from orchestrator_cli.models.model import Model
    from orchestrator_cli.orchestrator import RunResult
    from orchestrator_cli.settings import Settings
    from orchestrator_cli.views.console import Console


def settings_of(workspace: Path | None, **flags: Any) -> Settings:
    """The settings of a command; a flag that is None was not said."""
    from orchestrator_cli.settings import load_settings

    return load_settings(flags, workspace or Path.cwd())


def kinds(text: str | None) -> tuple[str, ...] | None:
    """What `--approve` names. Raises `UsageError` with all the names there are."""
    from orchestrator_cli.settings import approvals

    if text is None:
        return None
    try:
        return approvals(text.split(","))
    except ValueError as exc:
        raise UsageError(f"--approve does not know {exc}.".replace(": say ", ".\nSay "), "") from exc


@contextlib.contextmanager
def reporting(output: Output) -> Iterator[Console]:
    """Turn errors into one message and an exit code; a traceback only where it was asked for."""
    console = output.console()
    try:
        yield console
    except OrchError as exc:
        console.close()
        if output.debug:
            traceback.print_exc()
        console.error(exc)
        raise typer.Exit(exc.exit_code) from exc
    except KeyboardInterrupt:
        console.close()
        interrupted = Interrupted("Interrupted.")
        console.error(interrupted)
        raise typer.Exit(interrupted.exit_code) from None
    finally:
        console.close()


@dataclass(frozen=True)
class Running:
    """A run that is about to go on, with all that was said of it on the command line."""

    settings: Settings
    output: Output
    console: Console
    model: Model | None = None
    recorder: Callable[[Model], Model] | None = None
    unsafe: str = ""

    def ask(self, prompt: str) -> None:
        """Run a prompt and print the answer. Raises `OrchError`, also where a part of the work failed."""
        from orchestrator_cli.orchestrator import run_prompt
        from orchestrator_cli.runtime import checked_prompt

        def begin(views: list[View]) -> RunResult:
            text = checked_prompt(prompt, self.settings.home)
            with self._open(views) as opened:
                return run_prompt(text, opened)

        self._through(begin)

    def ask_within(self, prompt: str, *, name: str, goes_on: bool) -> None:
        """The same within a session, at the end of which facts about the user are remembered."""
        from orchestrator_cli.cli.chat.session import Sitting
        from orchestrator_cli.orchestrator import run_prompt
        from orchestrator_cli.recall.sessions import exchange_of
        from orchestrator_cli.runtime import checked_prompt

        text = checked_prompt(prompt, self.settings.home)
        check_workspace(self.settings)
        sitting = Sitting(self.settings, lambda line: self.console.lines([line]), name=name, goes_on=goes_on)

        def begin(views: list[View]) -> RunResult:
            with self._open(views) as opened:
                try:
                    result = run_prompt(text, opened, sitting.conversation())
                except Interrupted:
                    raise  # Who wants to go is not kept by what is to be remembered.
                except OrchError:
                    sitting.failed(opened.masks(text), opened.usage)
                    raise
                told = opened.masks(text), opened.masks(result.plan), opened.masks(result.answer)
            sitting.add(exchange_of(result.run, *told, ()), result.usage)
            return result

        try:
            self._through(begin)
        finally:
            sitting.leave()

    def build(self, purpose: str, name: str) -> None:
        """Have one tool built and print which it is; without a name, it gets one of its purpose's words."""
        from orchestrator_cli.execution.tool_registry import tool_to_build
        from orchestrator_cli.orchestrator import build_one
        from orchestrator_cli.runtime import checked_prompt

        def begin(views: list[View]) -> RunResult:
            tool = tool_to_build(checked_prompt(purpose, self.settings.home), name, self.settings.home)
            with self._open(views) as opened:
                return build_one(tool, opened)

        self._through(begin)

    def resume(self, run: str, limits: Mapping[str, Any]) -> None:
        """Go on with a run and end as `ask` would have; `limits` are those that were said anew."""
        from orchestrator_cli.orchestrator import resume_run

        def begin(views: list[View]) -> RunResult:
            with self._open(views, resumed=run) as opened:
                return resume_run(opened, limits)

        self._through(begin)

    def say_again(self, found: Sequence[Event], end: RunFinished) -> None:
        """Print once more what came of a run that is over. Raises `OrchError` as it did then.

        Its last process may have been killed before it could write the end into the log.
        """
        from orchestrator_cli.state import fold
        from orchestrator_cli.views.filelog import FileLog
        from orchestrator_cli.views.jsonl import envelope_line, envelope_of

        file_log(self.settings, FileLog).catch_up(found)
        message, _, remedy = (end.error or "").partition("\n")
        if self.output.as_json:
            typer.echo(envelope_line(envelope_of(fold(found))))
        elif not self.output.stream_json:
            self.console.print_answer(end.answer)
        if end.exit_code:
            raise RunFailed(message, remedy)

    def _through(self, begin: Callable[[list[View]], RunResult]) -> None:
        from orchestrator_cli.views.filelog import FileLog
        from orchestrator_cli.views.jsonl import Envelope, JsonLines, envelope_line

        output, envelope = self.output, Envelope()
        error: OrchError | None = None
        try:
            views: list[View] = [file_log(self.settings, FileLog), self.console, envelope]
            if output.stream_json:
                views.append(JsonLines(sys.stdout))
            result = begin(views)
            error = result.shortfall
        except OrchError as exc:
            error = exc
            raise
        finally:
            if output.as_json:
                typer.echo(envelope_line(envelope.result(error)))
        if not (output.as_json or output.stream_json):
            self.console.print_answer(result.answer)
        if error is not None:
            raise error

    @contextlib.contextmanager
    def _open(self, views: list[View], resumed: str = "") -> Iterator[Run]:
        from orchestrator_cli.cli.chat.terminal_input import can_listen, listening
        from orchestrator_cli.cli.editor import edit
        from orchestrator_cli.models.sources import GivenModel, LiveModels
        from orchestrator_cli.runtime import open_run

        source = GivenModel(self.model) if self.model is not None else LiveModels(self.recorder)

        with (
            open_run(
                self.settings,
                views,
                source=source,
                resumed=resumed,
                attended=can_listen(self.console),
                unsafe=self.unsafe,
            ) as run,
            listening(run.broker, self.console, edit=edit, interjecting=False),
        ):
            yield run


def check_workspace(settings: Settings) -> None:
    """Raises `UsageError` where the workspace is no folder."""
    from orchestrator_cli.workspace import check_folder

    check_folder(settings.workspace)


def file_log(settings: Settings, make: Any) -> Any:
    """The log of the workspace. Raises `UsageError` where the workspace is no folder, before the log can."""
    check_workspace(settings)
    return make(settings.workspace / "fileLog.md", settings.home)


def print_lines(lines: list[str]) -> None:
    """Lines on standard output; on a terminal without anything that could act upon it."""
    from orchestrator_cli.views.streams import write
    from orchestrator_cli.views.text import clean

    shown = map(clean, lines) if sys.stdout.isatty() else lines
    write(sys.stdout, "".join(f"{line}\n" for line in shown))
