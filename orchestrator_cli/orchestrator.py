"""The straight way: prompt, recall, plan, execute and revise, answer, remember."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from pydantic import JsonValue

from orchestrator_cli import events
from orchestrator_cli.approvals.questions import approved_plan
from orchestrator_cli.engine.artifacts import Artifacts
from orchestrator_cli.errors import (
    ApprovalNeeded,
    Cancelled,
    Interrupted,
    LimitReached,
    NotApproved,
    OrchError,
    ProviderError,
    RunFailed,
    RunTimedOut,
)
from orchestrator_cli.events import Conversation, Outcome
from orchestrator_cli.execution.context import RunContext
from orchestrator_cli.execution.resume import board_of, has_work, told, untold
from orchestrator_cli.plan import NewTool, Plan, tool_plan
from orchestrator_cli.planning.answer import list_results, write_answer
from orchestrator_cli.planning.planner import NOTHING_SAID, make_plan
from orchestrator_cli.planning.routing import chosen_model, route
from orchestrator_cli.recall.remembering import uses_of
from orchestrator_cli.runtime import House
from orchestrator_cli.state.board import Board
from orchestrator_cli.usage import Usage


@dataclass(frozen=True)
class RunResult:
    run: str
    answer: str
    plan: Plan
    shortfall: OrchError | None
    """Set where a part of the work failed for good; the answer says what there is all the same."""
    usage: Usage
    seconds: float


def run_prompt(prompt: str, house: House, conversation: Conversation = NOTHING_SAID) -> RunResult:
    """Do what the prompt asks, and remember how it went.

    `conversation` is what was said before in the same session. Everything that happens is an
    event; the last one is always `RunFinished`. Raises `OrchError` with the exit code of what
    ended the run.
    """
    house.emit(house.introduce(prompt, conversation))
    return _carry_out(
        prompt, house, lambda: _approved(house, _plan(prompt, house, conversation)), conversation.session
    )


def build_one(tool: NewTool, house: House) -> RunResult:
    """Have one tool built, or one found that serves: a run of its own, whose plan is that and nothing else.

    Raises as `run_prompt` does, and `RunFailed` with the reasons where the tool was refused.
    """
    prompt = f"Build a tool: {tool.purpose}"
    house.emit(house.introduce(prompt))
    return _carry_out(prompt, house, lambda: _given(house, tool_plan(tool)))


def resume_run(house: House, limits: Mapping[str, JsonValue] | None = None) -> RunResult:
    """Go on with the run of the house where another process has left it; else as `run_prompt`.

    `limits` are those that were said anew.
    """
    house.emit(house.introduce_again(limits or {}))
    past = house.past
    return _carry_out(past.prompt, house, lambda: _approved(house, _go_on(house)), past.conversation.session)


def _carry_out(prompt: str, house: House, begin: Callable[[], Board], session: str = "") -> RunResult:
    started, board, answer = time.monotonic() - house.past.seconds, None, ""
    error: BaseException | None = None
    try:
        board = begin()
        with Artifacts(lambda text: house.emit(events.Noticed(message=text))) as artifacts:
            if has_work(board, house.settings.revise):
                _execute(prompt, house, board, artifacts)
            answer, unwritten = _answer(prompt, house, board)
        error = shortfall = _shortfall(board) or unwritten
        seconds = time.monotonic() - started
        return RunResult(house.run, answer, board.plan, shortfall, house.meter.total, seconds)
    except BaseException as exc:
        error = exc
        raise _as_ours(exc, house.run) from exc
    finally:
        seconds = time.monotonic() - started
        if isinstance(error, ApprovalNeeded):
            house.emit(events.RunPaused(approvals=error.approvals))
        elif board is not None and not isinstance(error, KeyboardInterrupt):
            house.remember(prompt, board, answer, _remembered_as(error), seconds, session)
        house.emit(_ending(house, board, answer, error, seconds))


def plan_prompt(prompt: str, house: House, conversation: Conversation = NOTHING_SAID) -> Plan:
    """Only the plan: recalled, written and validated, but not run and not remembered."""
    return _plan(prompt, house, conversation).plan


def _plan(prompt: str, house: House, conversation: Conversation) -> Board:
    recalled = house.recall(prompt)
    fact = events.Recalled(
        runs=tuple(run.prompt for run in recalled.runs),
        tools=tuple(tool.name for tool in recalled.tools),
        facts=recalled.facts,
        used=uses_of(recalled),
    )
    if fact != house.past.recalled:
        house.emit(fact)
    found = house.plan_again(recalled)
    if found is None:
        planner_context = house.planner_context(fact.tools)
        plan = make_plan(
            prompt,
            runs=recalled.runs,
            conversation=conversation,
            facts=recalled.facts,
            files=house.workspace.files(),
            planner_context=planner_context,
            model=house.model,
            emit=house.emit,
        )
    else:
        plan, planner_context = found
    if any(subtask.kind == "agent" for subtask in plan.subtasks):
        plan = route(plan, house.routing_evidence(prompt))
    house.emit(events.PlanProposed(plan=plan))
    board = Board(plan, planner_context)
    board.facts = recalled.facts
    board.files = None if conversation else house.files()
    return board


def _given(house: House, plan: Plan) -> Board:
    """The board of a plan that no planner wrote."""
    house.tell_recovered()
    house.emit(events.PlanProposed(plan=plan))
    return Board(plan, house.planner_context(()))


def _go_on(house: House) -> Board:
    """The board as the earlier process left it; one that was killed while planning plans anew."""
    past = house.past
    if past.plan is None:
        return _plan(past.prompt, house, past.conversation)
    house.tell_recovered()
    facts = untold(past, house.history)
    for fact in facts:
        house.emit(fact)
    board = board_of(told(past, facts), house.planner_context(past.recalled.tools if past.recalled else ()))
    board.facts = past.recalled.facts if past.recalled else ()
    return board


def _approved(house: House, board: Board) -> Board:
    """The board with the plan as a person lets it run, where one is to be asked.

    A plan that is nothing but the answer does nothing that could be refused.
    """
    answers = all(subtask.kind == "answer" for subtask in board.plan.subtasks)
    begun = house.past.approved or board.states or board.revisions
    if house.broker.needs("plan") and not answers and not begun:
        board.plan = approved_plan(
            board.plan,
            board.planner_context.catalogue,
            broker=house.broker,
            cancellation=house.cancellation,
            emit=house.emit,
        )
    return board


def _execute(prompt: str, house: House, board: Board, artifacts: Artifacts) -> None:
    from orchestrator_cli.execution.scheduler import run_graph  # Prefect, while the planner was thinking

    assert house.flow_run is not None
    run_graph(context_of(house, prompt, board), board, house.flow_run, artifacts, house.past.flow_run)


def context_of(house: House, prompt: str, board: Board) -> RunContext:
    """What every subtask of a run works with."""
    return RunContext(
        run=house.run,
        prompt=prompt,
        settings=house.settings,
        model=house.model,
        planner_context=board.planner_context,
        routing_evidence=cache(lambda: house.routing_evidence(prompt)),
        model_of=lambda subtask: chosen_model(board.plan, subtask, house.alternatives),
        workspace=house.workspace,
        toolbox=house.toolbox,
        roles=house.roles,
        backend=house.backend,
        cancellation=house.cancellation,
        broker=house.broker,
        gate=house.gate,
        masks=house.masks,
        effects=house.effects,
        repeats=house.repeats,
        emit=house.emit,
    )


def _answer(prompt: str, house: House, board: Board) -> tuple[str, OrchError | None]:
    """The answer; where the provider fails at the last step, the bare results and that error."""
    plan, states, results, failures = board.snapshot()
    try:
        return _written(prompt, house, board), None
    except ProviderError as exc:
        answer = list_results(plan, states=states, results=results, failures=failures)
        house.emit(events.AnswerDelta(text=answer))
        return answer, exc


def _written(prompt: str, house: House, board: Board) -> str:
    plan, states, results, failures = board.snapshot()
    return write_answer(
        prompt,
        plan,
        states=states,
        results=results,
        failures=failures,
        answered=board.answered,
        made=house.toolbox.made,
        reused=house.toolbox.reused,
        lessons=board.lessons,
        facts=board.facts,
        model=house.model,
        on_delta=lambda text: house.emit(events.AnswerDelta(text=text)),
    )


def _ending(
    house: House, board: Board | None, answer: str, error: BaseException | None, seconds: float
) -> events.RunFinished:
    ours = _as_ours(error, house.run) if error is not None else None
    results = board.snapshot()[2] if board is not None else {}
    return events.RunFinished(
        outcome=_outcome(ours),
        answer=answer,
        error=str(ours) if ours is not None else None,
        exit_code=ours.exit_code if ours is not None else 0,
        seconds=seconds,
        usage=house.meter.total,
        files=tuple(sorted({path for result in results.values() for path in result.files})),
    )


def _outcome(error: OrchError | None) -> Outcome:
    match error:
        case None:
            return "completed"
        case ApprovalNeeded():
            return "paused"
        case Cancelled() | NotApproved():
            return "cancelled"
        case Interrupted():
            return "interrupted"
    return "failed"


def _as_ours(exc: BaseException, run: str) -> OrchError:
    """The error as a user is told it, with the way to go on where there is one."""
    go_on = f"Go on with: orch resume {run}"
    if isinstance(exc, KeyboardInterrupt):
        return Interrupted(
            "Interrupted.", f"What was finished is in the workspace; nothing is half-done. {go_on}"
        )
    if not isinstance(exc, OrchError):
        return RunFailed(
            f"Something unforeseen: {type(exc).__name__}: {exc}",
            f"Run it with --debug to see where. {go_on}",
        )
    if isinstance(exc, ApprovalNeeded):
        exc.remedy = (
            f"Say yes to all with: orch approve {run} --yes\n"
            f"or to one: orch approve {run} ID --yes | --no --because TEXT | --answer TEXT"
        )
    elif isinstance(exc, PASSING) and not isinstance(exc, Cancelled) and "orch resume" not in exc.remedy:
        exc.remedy = f"{exc.remedy}\n{go_on}".strip()
    return exc


def _remembered_as(error: BaseException | None) -> str:
    """How a run ended, as far as its plan is to blame."""
    if error is None:
        return "completed"
    return "stopped" if isinstance(error, (*PASSING, Cancelled, NotApproved)) else "failed"


PASSING = (ProviderError, LimitReached, ApprovalNeeded, RunTimedOut, Interrupted)
"""What ends a run that may be gone on with later."""


def _shortfall(board: Board) -> RunFailed | None:
    """The error of a run that came to its end without doing all of its plan."""
    if board.met:
        return None
    failures = "\n".join(f"{name}: {reason}" for name, reason in board.failures.items())
    return RunFailed("A part of the work failed; the answer says which.", failures)
