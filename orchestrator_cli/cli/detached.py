"""Runs without this terminal: start one and leave it, and watch it again from any terminal."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from orchestrator_cli.approvals.broker import Question, UserReply, check_reply, how_to_answer, question_of
from orchestrator_cli.approvals.deadlines import Patience
from orchestrator_cli.approvals.inbox import Answer, Remark, pending_answers, send
from orchestrator_cli.cli.chat.in_loop import loop_input
from orchestrator_cli.cli.chat.terminal_input import can_read_terminal, terminal_input
from orchestrator_cli.cli.options import Output
from orchestrator_cli.cli.pictures import draw_images
from orchestrator_cli.cli.reporting import print_lines
from orchestrator_cli.errors import ApprovalNeeded, Interrupted, RunFailed, UsageError
from orchestrator_cli.events import Event, RunFinished
from orchestrator_cli.journal.follow import JournalFollower
from orchestrator_cli.journal.followed_runs import follow
from orchestrator_cli.journal.journal import EventView, lock_owner
from orchestrator_cli.runs.background import BackgroundRun, await_beginning, begin, go_on, journal_size
from orchestrator_cli.runs.find import PastRun
from orchestrator_cli.runs.page_answers import take_page_answers
from orchestrator_cli.runtime import checked_prompt, new_run_id
from orchestrator_cli.same_folder import check_same
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState, apply
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.envelope import Envelope
from orchestrator_cli.views.streams import JsonLines, envelope_line, write_line
from orchestrator_cli.views.text import one_line
from orchestrator_cli.workspace import check_folder

POLL_S = 0.1
PAGE_S = 2.0
"""Between looks for an answer on Prefect's page, to a run without a process."""


def arguments_of(*sets: object, **values: Any) -> tuple[str, ...]:
    """Options as a command line gives them: those of sets of options, and others by their names."""
    given: dict[str, Any] = {}
    for one in sets:
        given |= vars(one)
    arguments: list[str] = []
    for name, value in (given | values).items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            arguments.append(flag)
        elif isinstance(value, list):
            arguments += [f"{flag}={item}" for item in value]
        elif value is not None and value is not False:
            arguments.append(f"{flag}={value}")
    return tuple(arguments)


def check_detach(*, detach: bool, unsafe: bool) -> None:
    """Raise `UsageError` for a run in the background without a sandbox, which a person allows each time."""
    if detach and unsafe:
        raise UsageError("--detach excludes --unsafe-no-sandbox.", "Leave one of them out.")


def start_detached(
    settings: Settings,
    command: Sequence[str],
    arguments: Sequence[str] = (),
    prompt: str = "",
    patience: Patience | None = None,
) -> PastRun:
    """Start a run in the background.

    Args:
        command: of `orch`, with its options.
        arguments: those of its options that `orch resume` takes too.
        prompt: what the command reads from standard input.
        patience: how long its questions are open.

    Raises `OrchError` if it does not begin.
    """
    mark = settings.origin.mark
    check_same(settings.workspace, mark)
    check_folder(settings.workspace)
    text = checked_prompt(prompt, settings.home) if prompt else ""
    past = PastRun(new_run_id(), settings.home, settings.workspace.resolve(), mark)
    process = begin(past, command, text, BackgroundRun(arguments=tuple(arguments), patience=patience))
    await_beginning(past, process)
    return past


def resume_detached(past: PastRun, arguments: Sequence[str] = (), patience: Patience | None = None) -> None:
    """Resume a run in the background, with these options and this patience if any.

    Raises `OrchError` if it does not go on.
    """
    before = journal_size(past)
    await_beginning(past, go_on(past, arguments, patience), before)


def print_started(past: PastRun, console: Console, output: Output) -> None:
    """Print the name of a run in the background, and to a person what to do with it."""
    write_line(sys.stdout, envelope_line({"run": past.run})) if output.as_json else print_lines([past.run])
    if output.is_for_people and not output.quiet:
        console.lines(started_lines(past))


def started_lines(past: PastRun) -> list[str]:
    return [f"Run {past.run} goes on in the background. Watch it with: orch attach {past.run}"]


# --- watching


class RemoteAnswers:
    """The open questions of a run in another process, and the way to answer them."""

    def __init__(self, past: PastRun, *, attended: bool) -> None:
        self._folder = past.folder
        self._state = RunState()
        self._sent: set[str] = set()
        self._remarks: list[tuple[str, Path]] = []
        self.attended = attended

    def saw(self, state: RunState) -> None:
        """Use the questions of this state."""
        self._state = state

    @property
    def _asked(self) -> dict[str, tuple[str, Question]]:
        """By the id of each question as it is made here: the id that the run knows, and the question."""
        found = {}
        for asked in self._state.open:
            if asked.id not in self._sent:
                question = question_of(asked)
                found[question.id] = asked.id, question
        return found

    @property
    def open(self) -> tuple[Question, ...]:
        """The questions that were not answered, oldest first."""
        return tuple(question for _, question in self._asked.values())

    def reply(self, id_: str, reply: UserReply) -> None:
        """Send an answer. Raises `UsageError` if it does not fit."""
        name, question = self._asked[id_]
        check_reply(question, reply)
        send(self._folder, Answer(id=name, reply=reply))
        self._sent.add(name)

    def remark(self, text: str) -> None:
        self._remarks.append((text, send(self._folder, Remark(text=text))))

    def take_late(self) -> list[str]:
        """The remarks that came too late for a run that has ended; those it has not read are withdrawn."""
        if self._state.finished is None or self._state.finished.outcome != "completed":
            return []  # a resumed run reads them
        late = [text for text, path in self._remarks if path.exists() or text in self._state.unread]
        for _, path in self._remarks:
            path.unlink(missing_ok=True)
        return late

    def detach(self) -> None:
        """Leave the questions for later."""
        self.attended = False


def attach(past: PastRun, settings: Settings, console: Console, output: Output) -> None:
    """Show a run from its beginning until it ends, answer its questions, and pass remarks on.

    A run that pauses goes on in the background as soon as its questions are answered. Raises `typer.Exit`
    with the run's exit code; `ApprovalNeeded` if it waits and no person is here; `RunFailed` if it has died.
    """
    follow(past.journal)
    envelope = Envelope()
    views: list[EventView] = [console, envelope]
    if output.stream_json:
        views.append(JsonLines(sys.stdout))
    try:
        attended = output.is_for_people and can_read_terminal(console)
        answers = RemoteAnswers(past, attended=attended)
        state, unfinished = _watch(past, settings, console, views, answers)
    except KeyboardInterrupt:
        console.close()
        console.lines([f"Run {past.run} goes on. End it with: orch cancel {past.run}"])
        raise typer.Exit(Interrupted.exit_code) from None
    finally:
        console.close()
    assert state.finished is not None
    if output.as_json:
        console.print_envelope(envelope.result())
    elif not output.stream_json and state.finished.answer:
        console.print_answer(state.finished.answer, is_data=state.answer_schema is not None)
        draw_images(console, settings)
    _keep(answers.take_late(), unfinished, console)
    raise typer.Exit(state.finished.exit_code)


def _keep(late: Sequence[str], unfinished: str, console: Console) -> None:
    """Make what a run did not use the next prompt of the loop; outside of one, say that it was not used."""
    if (loop := loop_input()) is not None:
        loop.keep(late, unfinished, lambda line: console.lines([line]))
    else:
        console.lines([f"note  The run had ended when you said: {one_line(text, 200)}" for text in late])


@dataclass
class _PageLook:
    """Looks for answers on Prefect's page now and then."""

    past: PastRun
    settings: Settings
    looked: float = -PAGE_S

    def has_answer(self, state: RunState) -> bool:
        if time.monotonic() - self.looked < PAGE_S:
            return False
        self.looked = time.monotonic()
        return take_page_answers(self.past, state, self.settings)


def _watch(
    past: PastRun, settings: Settings, console: Console, views: Sequence[EventView], answers: RemoteAnswers
) -> tuple[RunState, str]:
    """The run at its end, and the line that its user had begun to type."""
    with terminal_input(answers, console, takes_remarks=True) as unfinished:
        state = _followed(past, settings, views, answers)
    return state, unfinished()


def _followed(
    past: PastRun, settings: Settings, views: Sequence[EventView], answers: RemoteAnswers
) -> RunState:
    """The run at its end. Raises `ApprovalNeeded` and `RunFailed`."""
    follower, state = JournalFollower(past.journal), RunState()
    page = _PageLook(past, settings)
    while True:
        is_running = lock_owner(past.folder) is not None  # before its last events are read
        for event in follower.new():
            state = apply(state, event)
            answers.saw(state)
            if not (_is_pause(event) and answers.attended):
                for view in views:
                    view(event, state)
        if not is_running:
            if state.finished is not None and not state.open:
                return state
            if not state.open:
                raise RunFailed(
                    f"The process of run {past.run} has died.", f"Go on with: orch resume {past.run}"
                )
            is_answered = {asked.id for asked in state.open} <= pending_answers(past.folder)
            if is_answered or page.has_answer(state):
                resume_detached(past)
            elif not answers.attended:
                raise ApprovalNeeded(
                    f"Run {past.run} waits for an answer.", "\n".join(how_to_answer(past.run, state.open))
                )
        time.sleep(POLL_S)


def _is_pause(event: Event) -> bool:
    """Whether a process has ended because its run waits for a person, who may be here."""
    return isinstance(event.data, RunFinished) and event.data.outcome == "paused"
