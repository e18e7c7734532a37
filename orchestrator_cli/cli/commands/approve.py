"""`orch approve`: the questions of a run, and answers to them, from another process than the run's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator_cli.cli.commands.runs import go_on
from orchestrator_cli.cli.options import (
    AsJson,
    Debug,
    Folder,
    ModelName,
    Output,
    Quiet,
    RunName,
    StreamJson,
    Verbose,
)
from orchestrator_cli.cli.running import reporting, settings_of
from orchestrator_cli.errors import UsageError

if TYPE_CHECKING:
    from orchestrator_cli.approvals.broker import Question, UserReply
    from orchestrator_cli.events import ApprovalAsked
    from orchestrator_cli.runs.find import PastRun
    from orchestrator_cli.views.console import Console

app = typer.Typer(rich_markup_mode=None)


@dataclass(frozen=True)
class Said:
    """What stands on the command line about the answer."""

    yes: bool
    no: bool
    answer: str | None
    edit: bool
    because: str

    def __post_init__(self) -> None:
        if sum((self.yes, self.no, self.answer is not None, self.edit)) > 1:
            raise UsageError("--yes, --no, --answer and --edit exclude each other.", "Say one of them.")

    @property
    def decided(self) -> bool:
        return self.yes or self.no or self.edit or self.answer is not None


@app.command()
def approve(
    run: RunName,
    question: Annotated[str, typer.Argument(metavar="[ID]", help="Of the question.")] = "",
    yes: Annotated[
        bool, typer.Option("-y", "--yes", help="Yes; without an ID to all that ask for yes.")
    ] = False,
    no: Annotated[bool, typer.Option("--no", help="No.")] = False,
    answer: Annotated[str | None, typer.Option("--answer", metavar="TEXT", help="What is answered.")] = None,
    edit: Annotated[bool, typer.Option("--edit", help="Yes, to the plan as you edit it in $EDITOR.")] = False,
    because: Annotated[str, typer.Option("--because", metavar="TEXT", help="Why.")] = "",
    model: ModelName = None,
    workspace: Folder = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
    stream_json: StreamJson = False,
    debug: Debug = False,
) -> None:
    """List what a run asks, or answer it; when nothing is left to be answered the run goes on."""
    output = Output(quiet, verbose, as_json, stream_json, debug)
    with reporting(output) as console:
        from orchestrator_cli.approvals.inbox import Answer, pending_answers, send
        from orchestrator_cli.runs.find import find_run, look_at

        said = Said(yes, no, answer, edit, because)
        where = find_run(settings_of(workspace), run)
        one = look_at(where)
        told = pending_answers(where.folder)
        found = tuple(asked for asked in one.state.open if asked.id not in told)
        if not said.decided:
            _list(found, where, console, as_json=as_json)
            return
        chosen = _chosen(found, question, said, where)
        for asked in chosen:
            send(where.folder, Answer(id=asked.id, reply=_reply(asked, said)))
        left = [asked.id for asked in found if asked not in chosen]
        if one.status == "running":
            console.lines([f"Run {where.run} was told (process {one.pid or 'unknown'})."])
        elif left:
            console.lines(
                [f"Still open: {', '.join(left)}. Go on all the same with: orch resume {where.run}"]
            )
        else:
            go_on(where, {"model": model}, {}, output, console)


def _list(found: tuple[ApprovalAsked, ...], where: PastRun, console: Console, *, as_json: bool) -> None:
    if as_json:
        rows = [asked.model_dump(mode="json", exclude={"kind"}) for asked in found]
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    from orchestrator_cli.cli.chat.terminal_input import question_lines

    if not found:
        console.lines([f"Run {where.run} asks nothing."])
        return
    for asked in found:
        console.lines(question_lines(asked.id, _question(asked)))
    console.lines([f"orch approve {where.run} ID --yes | --no --because TEXT | --answer TEXT"])


def _chosen(
    found: tuple[ApprovalAsked, ...], name: str, said: Said, where: PastRun
) -> tuple[ApprovalAsked, ...]:
    """The questions that are meant. Raises `UsageError`."""
    listed = f"List what it asks with: orch approve {where.run}"
    if name:
        fitting = tuple(asked for asked in found if asked.id == name)
        if not fitting:
            raise UsageError(f"Run {where.run} has no open question {name}.", listed)
        return fitting
    if not found:
        raise UsageError(f"Run {where.run} asks nothing.", f"Go on with: orch resume {where.run}")
    if said.yes:
        fitting = tuple(asked for asked in found if asked.what != "question")
        return fitting or found
    if len(found) > 1:
        raise UsageError(f"Run {where.run} asks {len(found)} things.", f"Say the ID. {listed}")
    return found


def _reply(asked: ApprovalAsked, said: Said) -> UserReply:
    """Raises `UsageError` where what was said is no answer to this."""
    from orchestrator_cli.approvals.broker import UserReply, check_answer
    from orchestrator_cli.cli.chat.terminal_input import chosen
    from orchestrator_cli.planning.coercion import coerce_to_schema

    question = _question(asked)
    if said.edit:
        return UserReply(decision="yes", text=_edited(question), remark=said.because)
    if said.answer is not None:
        text = chosen(question, said.answer)
        check_answer(question, "answered", coerce_to_schema(text, question.result))
        return UserReply(decision="answered", text=text, remark=said.because)
    if said.yes:
        check_answer(question, "yes", None)
        return UserReply(decision="yes", remark=said.because)
    return UserReply(decision="no", remark=said.because)


def _edited(question: Question) -> str:
    from orchestrator_cli.cli.editor import edit
    from orchestrator_cli.planning.plan_text import may_be_edited

    if not may_be_edited(question.details):
        raise UsageError("The question shows no plan to be edited.", question.question)
    text = edit(question.details)
    if text is None:
        raise UsageError("Nothing was saved.", "Say --yes to run the plan as it is.")
    return text or "#"


def _question(asked: ApprovalAsked) -> Question:
    """What was asked; its own id may be another, because the event does not hold all that makes it."""
    from orchestrator_cli.approvals.broker import Question

    return Question(**asked.model_dump(exclude={"kind", "id"}))
