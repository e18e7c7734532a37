"""The commands that let a run continue: resume it, fork it, or answer what it asks from another process."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

from orchestrator_cli.approvals.broker import (
    Question,
    UserReply,
    check_reply,
    how_to_answer,
    needs_its_own_answer,
    question_of,
)
from orchestrator_cli.approvals.deadlines import Patience
from orchestrator_cli.approvals.inbox import Answer, await_use, pending_answers, send
from orchestrator_cli.approvals.late import check_was_used
from orchestrator_cli.cli.chat.terminal_input import choice_of, question_lines
from orchestrator_cli.cli.commands.ask import model_of
from orchestrator_cli.cli.detached import arguments_of, attach, check_detach, print_started, resume_detached
from orchestrator_cli.cli.editor import edit
from orchestrator_cli.cli.foreground import ForegroundRun, confirm_no_sandbox
from orchestrator_cli.cli.options import (
    AnswerOptions,
    Background,
    Detach,
    Folder,
    LimitOptions,
    MaxParallel,
    ModelName,
    NoSandbox,
    Output,
    PermissionOptions,
    RunName,
    Yes,
    with_options,
)
from orchestrator_cli.cli.reporting import print_json, reporting, run_flags, run_settings, settings_of
from orchestrator_cli.errors import OrchError, UsageError, storage_fault
from orchestrator_cli.events import ApprovalAsked
from orchestrator_cli.execution.resume import is_over
from orchestrator_cli.models.model import Model
from orchestrator_cli.models.sources import GivenModel, LiveModels, ModelFree
from orchestrator_cli.planning.plan_text import may_be_edited
from orchestrator_cli.run_errors import as_orch_error
from orchestrator_cli.runs.find import LAST, PastRun, check_is_same, find_run, look_at, moved_to, named_with
from orchestrator_cli.runs.fork import fork_run
from orchestrator_cli.runs.page_answers import take_page_answers
from orchestrator_cli.state import fold
from orchestrator_cli.views.console import Console

app = typer.Typer(rich_markup_mode=None)
WhatOfChanged = Literal["again", "accept"]


@app.command()
@with_options
def resume(
    run: RunName,
    *,
    model: ModelName = None,
    workspace: Folder = None,
    output: Output,
    limits: LimitOptions,
    max_parallel: MaxParallel = None,
    permissions: PermissionOptions,
    answers: AnswerOptions,
    unsafe_no_sandbox: NoSandbox = False,
    changed: Annotated[
        WhatOfChanged | None,
        typer.Option(
            "--changed",
            help="If files that the run made are gone or changed: do their subtasks `again`, with all that "
            "depend on them, or `accept` the files as they are.",
        ),
    ] = None,
    detach: Detach = False,
    background: Background = "",
) -> None:
    """Resume a run that was killed, interrupted, stopped by a limit, or waits for you.

    If the workspace was moved, name its new place with -C, and the run by its id.
    """
    with reporting(output) as console:
        check_detach(detach=detach, unsafe=unsafe_no_sandbox)
        flags = {**run_flags(limits, permissions), "model": model, "max_parallel": max_parallel}
        unsafe = confirm_no_sandbox(asked=unsafe_no_sandbox, yes=permissions.yes)
        past = find_run(settings_of(workspace), run)
        if workspace is not None and run != LAST and not background:
            past = moved_to(past, workspace)
        if detach:
            known = arguments_of(limits, permissions, model=model, max_parallel=max_parallel, changed=changed)
            resume_detached(past, known, answers.patience)
            print_started(past, console, output)
            return
        _continue(past, flags, limits, output, console, unsafe, changed, answers.patience)


@app.command()
@with_options
def fork(
    run: RunName,
    at: Annotated[str, typer.Option("--at", help="The subtask to do again, with all that depends on it.")],
    *,
    prompt: Annotated[
        str, typer.Option("--prompt", help="What should be different; the plan is changed accordingly.")
    ] = "",
    model: ModelName = None,
    workspace: Folder = None,
    output: Output,
    limits: LimitOptions,
    yes: Yes = False,
) -> None:
    """Start a new run from the finished part of another, without one subtask and what depends on it."""
    with reporting(output) as console:
        past = named_with(find_run(settings_of(workspace), run), run, workspace)
        check_is_same(past, f"orch fork {past.run} --at {at}")
        made = fork_run(past, at, prompt.strip())
        flags = {**vars(limits), "model": model, "yes": yes or None}
        _continue(made, flags, limits, output, console)


@app.command()
@with_options
def approve(
    run: RunName,
    question: Annotated[str, typer.Argument(metavar="ID", help="The id of the question.")] = "",
    *,
    yes: Annotated[
        bool, typer.Option("-y", "--yes", help="Say yes; without an ID, to every question of yes or no.")
    ] = False,
    no: Annotated[bool, typer.Option("--no", help="Say no.")] = False,
    answer: Annotated[str | None, typer.Option("--answer", metavar="TEXT", help="Answer with this.")] = None,
    edit_plan: Annotated[
        bool, typer.Option("--edit", help="Say yes to the plan after you edit it in $EDITOR.")
    ] = False,
    because: Annotated[str, typer.Option("--because", metavar="TEXT", help="Give a reason.")] = "",
    model: ModelName = None,
    workspace: Folder = None,
    output: Output,
) -> None:
    """List the questions of a run, or answer them. After the last answer, the run resumes."""
    with reporting(output) as console:
        given = ApprovalAnswer(yes, no, answer, edit_plan, because)
        past = find_run(settings_of(workspace), run)
        one = look_at(past)
        answered = pending_answers(past.folder)
        open_ones = tuple(asked for asked in one.state.open if asked.id not in answered)
        if not given.is_made:
            _list(open_ones, past, console, as_json=output.as_json)
            return
        picked = _questions(open_ones, question, given, past)
        replies = [(asked, _reply(asked, given)) for asked in picked]
        sent = [send(past.folder, Answer(id=asked.id, reply=reply)) for asked, reply in replies]
        left = [asked.id for asked in open_ones if asked not in picked]
        if one.status == "running":
            await_use(sent)
            facts = [event.data for event in past.events()]
            for asked, reply in replies:
                check_was_used(facts, asked.id, asked.subject, reply)
            console.lines([f"Run {past.run} was given the answer (process {one.pid or 'unknown'})."])
        elif left:
            console.lines([f"Still open: {', '.join(left)}. To resume without them: orch resume {past.run}"])
        else:
            _continue(past, {"model": model}, LimitOptions(), output, console)


@app.command("attach")
@with_options
def attach_command(run: RunName, *, workspace: Folder = None, output: Output) -> None:
    """Watch a run of another process, answer its questions, and tell it what you want changed.

    Ctrl-C leaves it running.
    """
    with reporting(output) as console:
        settings = settings_of(workspace)
        attach(find_run(settings, run), settings, console, output)


def _continue(
    past: PastRun,
    flags: dict[str, Any],
    limits: LimitOptions,
    output: Output,
    console: Console,
    unsafe: str = "",
    changed: WhatOfChanged | None = None,
    patience: Patience | None = None,
) -> None:
    """Resume a run in its own workspace and home, with recorded models if it had them."""
    events = past.events()
    state = fold(events)
    if not past.root.exists():
        raise UsageError(
            f"The workspace {past.root} of run {past.run} is gone.",
            f"If you moved it, name its new place: orch resume {past.run} -C FOLDER",
        )
    check_is_same(past, f"orch resume {past.run}")
    names = {*state.started.models.values()} if state.started else set()
    if names == {ModelFree.name} and state.has_plan:
        # Who started it named its process, which is the permission that it needs.
        flags = {**flags, "allow_processes": [one.process for one in state.plan.subtasks if one.process]}
    settings = run_settings(past.root, asks=output.is_for_people, mark=past.mark, **flags)
    if past.home != settings.home:
        prefect_home = settings.prefect_home or settings.home
        settings = settings.model_copy(update={"home": past.home, "prefect_home": prefect_home})
    model: Model | None = model_of(names) if settings.home.name == "demo" else None
    model = ModelFree() if names == {ModelFree.name} else model
    source = GivenModel(model) if model is not None else LiveModels()
    run = ForegroundRun(settings, output, console, source, unsafe, past.run, patience=patience)
    if state.finished is not None and is_over(state):
        run.show_again(events, state.finished)
        return
    take_page_answers(past, state, settings)
    try:
        given = {name: value for name, value in vars(limits).items() if value is not None}
        run.resume(past, given, changed)
    except OrchError as exc:
        if fault := storage_fault(exc):
            raise as_orch_error(fault, past.run) from exc
        raise


# --- answering


@dataclass(frozen=True)
class ApprovalAnswer:
    """What the command line says about the answer. Raises `UsageError` for more than one answer."""

    yes: bool
    no: bool
    answer: str | None
    edit: bool
    because: str

    def __post_init__(self) -> None:
        if sum((self.yes, self.no, self.answer is not None, self.edit)) > 1:
            raise UsageError("--yes, --no, --answer and --edit exclude each other.", "Give one of them.")

    @property
    def is_made(self) -> bool:
        return self.yes or self.no or self.edit or self.answer is not None


def _list(found: tuple[ApprovalAsked, ...], past: PastRun, console: Console, *, as_json: bool) -> None:
    if as_json:
        print_json([asked.model_dump(mode="json", exclude={"kind"}) for asked in found])
    elif not found:
        console.lines([f"Run {past.run} asks nothing."])
    else:
        for asked in found:
            console.lines(question_lines(asked.id, question_of(asked)))
        console.lines(how_to_answer(past.run, found))


def _questions(
    found: tuple[ApprovalAsked, ...], name: str, given: ApprovalAnswer, past: PastRun
) -> tuple[ApprovalAsked, ...]:
    """The questions that the answer is for. Raises `UsageError`."""
    listed = f"List its questions with: orch approve {past.run}"
    if name:
        named = tuple(asked for asked in found if asked.id == name)
        if not named:
            raise UsageError(f"Run {past.run} has no open question {name}.", listed)
        return named
    if not found:
        raise UsageError(f"Run {past.run} asks nothing.", f"Resume it with: orch resume {past.run}")
    if given.yes and (others := tuple(asked for asked in found if not needs_its_own_answer(asked))):
        return others
    if len(found) > 1:
        raise UsageError(f"Run {past.run} asks {len(found)} things.", f"Give the ID. {listed}")
    return found


def _reply(asked: ApprovalAsked, given: ApprovalAnswer) -> UserReply:
    """Raises `UsageError` if the answer does not fit the question."""
    question = question_of(asked)
    if given.edit:
        return UserReply(decision="yes", text=_edited(question), remark=given.because)
    reply = UserReply(decision="yes" if given.yes else "no", remark=given.because)
    if given.answer is not None:
        text = choice_of(question, given.answer)
        reply = UserReply(decision="answered", text=text, remark=given.because)
    check_reply(question, reply)
    return reply


def _edited(question: Question) -> str:
    if not may_be_edited(question.details):
        raise UsageError("The question shows no plan to edit.", question.question)
    text = edit(question.details)
    if text is None:
        raise UsageError("Nothing was saved.", "Say --yes to run the plan as it is.")
    return text or "#"
