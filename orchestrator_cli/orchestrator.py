"""The line of a run: recall, plan, approve, execute and revise, answer, remember."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pydantic import JsonValue

from orchestrator_cli import events
from orchestrator_cli.approvals.questions import approved_plan
from orchestrator_cli.engine.artifacts import Artifacts
from orchestrator_cli.engine.flow_run import ending
from orchestrator_cli.engine.outbox import ARTIFACTS
from orchestrator_cli.errors import (
    ApprovalNeeded,
    HomeReplaced,
    Interrupted,
    OrchError,
    ProviderError,
    RunFailed,
    RunStopped,
    StorageFault,
    storage_fault,
)
from orchestrator_cli.execution.attaching import attach, write_down
from orchestrator_cli.execution.plan_changes import failures, goal_missed
from orchestrator_cli.execution.resume import has_work, missing_facts, recheck_files
from orchestrator_cli.execution.reuse import reused_plan
from orchestrator_cli.execution.run import Run
from orchestrator_cli.execution.scheduler import Scheduler
from orchestrator_cli.execution.speaking import check_speech, speak_answer
from orchestrator_cli.execution.turns import turn
from orchestrator_cli.journal.journal import damage
from orchestrator_cli.models.own_keys import own_keys
from orchestrator_cli.models.sources import ModelFree
from orchestrator_cli.plan import NewTool, Plan, tool_plan
from orchestrator_cli.planning.answer import UNWRITTEN, list_results, write_answer
from orchestrator_cli.planning.data_answer import check_schema
from orchestrator_cli.planning.planner import NOTHING_SAID, PlannerContext, make_plan
from orchestrator_cli.planning.routing import route
from orchestrator_cli.recall.recalled import recalled_event
from orchestrator_cli.run_errors import as_orch_error, end_of_plan, outcome_of, remembered_as
from orchestrator_cli.state import RunState
from orchestrator_cli.values import NO_OPTIONS, Conversation, PromptOptions, Usage


@dataclass(frozen=True)
class RunResult:
    run: str
    answer: str
    plan: Plan
    shortfall: OrchError | None
    """Set if a part of the work failed for good; the answer says what there is."""
    usage: Usage
    seconds: float
    is_data: bool = False
    """Whether the answer is JSON that satisfies the schema of the prompt."""


def run_prompt(
    prompt: str,
    run: Run,
    conversation: Conversation = NOTHING_SAID,
    options: PromptOptions = NO_OPTIONS,
    given: Plan | None = None,
) -> RunResult:
    """Do what the prompt asks, and remember how it went.

    `conversation` is what was said before in the same session. With `given`, a plan that was made before and
    may have been edited, no planner is asked. Everything that happens is an event; the
    last one is always `RunFinished`. Raises `OrchError` with the exit code of what ended the run, and before
    there is an event if a file of `options` cannot be used.
    """
    begin(prompt, run, conversation, options)
    with _ending(run) as work:
        plan(run, work, given)
        approve(run, work)
        execute(run, work)
        return answer(run, work)


def run_plan(prompt: str, given: Plan, run: Run) -> RunResult:
    """Carry out a plan that is there already; `prompt` says what it is for. Raises as `run_prompt` does."""
    run.emit(run.started(prompt))
    with _ending(run) as work:
        notice_opened(run)
        run.emit(events.PlanProposed(plan=given))
        approve(run, work)
        execute(run, work)
        return answer(run, work)


def resume_run(
    run: Run, limits: Mapping[str, JsonValue] | None = None, changed: str | None = None
) -> RunResult:
    """Continue a run that another process left; else as `run_prompt`.

    Args:
        limits: those that the resuming command names.
        changed: what to do about files that are no longer as the run made them: `again` or `accept`.
    """
    with _ending(run) as work:
        run.emit(run.resumed(limits or {}))
        restore(run, work, changed)
        approve(run, work)
        execute(run, work)
        return answer(run, work)


def build_one(tool: NewTool, run: Run) -> RunResult:
    """Have one tool built, or one found that serves: a run of its own, whose plan is nothing else.

    Raises as `run_prompt` does, and `RunFailed` with the reasons if the tool was refused.
    """
    run.emit(run.started(f"Build a tool: {tool.purpose}"))
    with _ending(run) as work:
        notice_opened(run)
        run.emit(events.PlanProposed(plan=tool_plan(tool)))
        execute(run, work)
        if work.cut_short is not None:
            raise work.cut_short
        return answer(run, work)


def plan_prompt(
    prompt: str,
    run: Run,
    conversation: Conversation = NOTHING_SAID,
    options: PromptOptions = NO_OPTIONS,
) -> Plan:
    """Only the plan: recalled, written and validated, and not remembered. `resume_run` runs it."""
    begin(prompt, run, conversation, options)
    work, error = _Work(run), None
    try:
        plan(run, work)
    except BaseException as exc:
        error = exc
        raise
    finally:
        with suppress(StorageFault, HomeReplaced):
            run.emit(_finished(run, work, work.seconds).model_copy(update=end_of_plan(error)))
    return run.state.plan


def begin(prompt: str, run: Run, conversation: Conversation, options: PromptOptions) -> None:
    """Take in what goes with the prompt, and emit the first event. Raises `UsageError` and `ConfigError`."""
    if options.speak is not None:
        check_speech(run, options.speak)
    if options.answer_schema is not None:
        check_schema(options.answer_schema)
    run.emit(run.started(prompt, conversation, attach(run, options.attach), options))


@dataclass
class _Work:
    """What a run has in hand besides its state."""

    run: Run
    files: tuple[str, ...] | None = None
    """What was in the workspace when it was planned, if its plan may be used again."""
    answer: str = ""
    error: BaseException | None = None
    cut_short: RunStopped | ProviderError | None = None
    """Why the work ended early: it was stopped, or a provider was lost after it had results."""
    before_s: float = 0.0
    since: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return self.before_s + time.monotonic() - self.since

    @property
    def context(self) -> PlannerContext:
        """What the plan may count on."""
        recalled = self.run.state.recalled
        return self.run.planner_context(recalled.tools if recalled else ())


@contextmanager
def _ending(run: Run) -> Iterator[_Work]:
    """Remember the run and say how it ended, however that is."""
    work = _Work(run, before_s=run.state.seconds)
    turns = run.settings.home / "locks" / "runs"
    try:
        with turn(turns, run.settings.max_runs, run.cancellation, run.notice):
            yield work
    except BaseException as exc:
        work.error = exc
        raise as_orch_error(exc, run.id, run.state.open) from exc
    finally:
        seconds = work.seconds
        try:
            run.stream.check()
            _close(run, work, seconds)
            run.emit(_finished(run, work, seconds))
        except (StorageFault, HomeReplaced) as exc:
            # Without its end in the journal, the run can be resumed like one that was killed.
            error = work.error
            if error is None or not (
                storage_fault(error) or isinstance(error, KeyboardInterrupt | Interrupted | HomeReplaced)
            ):
                raise as_orch_error(exc, run.id) from exc


def _close(run: Run, work: _Work, seconds: float) -> None:
    """Remember the run, or say that it waits for a person; a machine that stopped it has decided nothing."""
    error = work.error
    if unsent := run.flow_run.close(error):
        run.notice(unsent)
    if isinstance(error, ApprovalNeeded):
        run.emit(events.RunPaused(approvals=error.approvals))
    elif _teaches(run, error):
        try:
            run.memory.remember(
                run.state,
                work.context,
                work.answer,
                remembered_as(error),
                seconds,
                used=run.registry.used(),
                files=work.files,
            )
        except OSError as exc:
            # The work is done, and so is its answer.
            run.notice(f"The run could not be remembered: {storage_fault(exc) or exc}")


def _teaches(run: Run, error: BaseException | None) -> bool:
    """Whether planners can learn from a run: it has a plan of a model, and was not stopped by the machine."""
    stopped = isinstance(error, KeyboardInterrupt) or (error is not None and storage_fault(error) is not None)
    return run.state.has_plan and not stopped and ModelFree.name not in run.model_names.values()


# --- recall and plan


def plan(run: Run, work: _Work, given: Plan | None = None) -> None:
    """Recall, then use an earlier plan again or have one written; it is proposed, not yet approved."""
    state = run.state
    notice_opened(run)
    write_down(run)
    recalled = run.memory.recall(state.prompt, run.id, state.conversation.session)
    fact = recalled_event(recalled)
    if fact != state.recalled:
        run.emit(fact)
    files = run.workspace.listing(state.prompt, partial(own_keys(run.settings).mask, is_cut=True))
    proposed = (
        given
        or reused_plan(run, recalled)
        or make_plan(
            state.prompt,
            runs=recalled.runs,
            conversation=state.conversation,
            facts=recalled.facts,
            findings=fact.findings,
            files=files.rows,
            planner_context=work.context,
            model=run.model,
            emit=run.emit,
        )
    )
    if given is None and any(subtask.kind == "agent" for subtask in proposed.subtasks):
        proposed = route(proposed, run.routing_evidence(state.prompt))
    run.emit(events.PlanProposed(plan=proposed))
    # A prompt that needs what was said before, or what came with it, cannot be understood without it.
    work.files = None if state.conversation or state.is_more_than_its_prompt else files.paths


def restore(run: Run, work: _Work, changed: str | None) -> None:
    """Say what follows from the journal; a run that was killed while planning plans now."""
    for text in damage(run.stream.path):
        run.notice(text)
    if not run.state.has_plan:
        plan(run, work)
        return
    notice_opened(run)
    for fact in missing_facts(run.state, run.history):
        run.emit(fact)
    recheck_files(run, changed)


def notice_opened(run: Run) -> None:
    """Say what opening the workspace has brought to an end, and what of it is not used."""
    for text in (*run.workspace.recovered, *run.left_out):
        run.notice(text)


def approve(run: Run, work: _Work) -> None:
    """Have a person approve the plan, if one is to be asked.

    A plan that is nothing but the answer does nothing that could be refused.
    """
    state = run.state
    answers = all(subtask.kind == "answer" for subtask in state.plan.subtasks)
    begun = state.approved or state.states or state.revisions
    if run.broker.needs("plan") and not answers and not begun:
        catalogue = work.context.catalogue
        approved_plan(state.plan, catalogue, broker=run.broker, cancellation=run.cancellation, emit=run.emit)


# --- execute


def execute(run: Run, work: _Work) -> None:
    """Run the plan within the flow run, if anything is left to do. Raises as `Scheduler.carry_out` does.

    If the work was stopped, or a provider was lost and there are results, `_Work.cut_short` holds the error.
    """
    if not has_work(run.state, run.settings):
        return
    paused: list[ApprovalNeeded] = []
    artifacts = Artifacts(partial(run.flow_run.outbox.put, ARTIFACTS))

    def opened(flow_run: str, url: str) -> None:
        if flow_run != run.state.flow_run:
            run.emit(events.FlowStarted(flow_run=flow_run, url=url))

    def within() -> Any:
        run.flow_run.when_open(opened)
        artifacts.show_plan(run.state.plan, "The plan")
        try:
            Scheduler(run, work.context, artifacts).carry_out()
        except ApprovalNeeded as exc:
            paused.append(exc)
            return ending(exc)
        return None

    try:
        run.flow_run.carry_out(within)
    except KeyboardInterrupt:
        run.cancellation.cancel(Interrupted("The run was interrupted."))
        with suppress(Exception):
            run.flow_run.await_end()
        raise
    except (RunStopped, ProviderError) as exc:
        # A run that ends with 1 and an answer is over; one whose replies were unusable can be resumed.
        resumable = exc.exit_code != ProviderError.exit_code or not run.state.results
        if isinstance(exc, ProviderError) and resumable:
            raise
        work.cut_short = exc
        # All work has ended, and the answer is still to be written.
        run.cancellation.lift(RunStopped)
    if paused:
        raise paused[0]


# --- answer


def answer(run: Run, work: _Work) -> RunResult:
    """Word the answer, and have it spoken if the prompt said so."""
    result, file = _answered(run, work), run.state.speak
    if file is None:
        return result
    fault = speak_answer(run, result.answer, file)
    work.error = shortfall = result.shortfall or fault
    return replace(result, shortfall=shortfall, usage=run.usage)


def _answered(run: Run, work: _Work) -> RunResult:
    """Word the answer; if the provider fails at this last step or before it, the results are the answer.

    An answer that has to satisfy a schema is there as such or not at all: what is short raises its error.
    """
    cut = work.cut_short
    if run.state.answer_schema is not None:
        if (short := cut or shortfall_of(run.state)) is not None:
            raise short
        work.answer = _written(run, "")
        return RunResult(run.id, work.answer, run.state.plan, None, run.usage, work.seconds, is_data=True)
    unwritten = cut if isinstance(cut, ProviderError) else None
    if unwritten is None:
        try:
            work.answer = _written(run, cut.message if cut else "")
        except ProviderError as exc:
            unwritten = exc
    if unwritten is not None:
        state = run.state
        work.answer = list_results(
            state.plan,
            states=state.states,
            results=state.results,
            failures=failures(state),
            why=UNWRITTEN if cut is None or cut is unwritten else cut.message,
        )
        run.emit(events.AnswerDelta(text=work.answer))
    work.error = shortfall = cut or shortfall_of(run.state) or unwritten
    return RunResult(run.id, work.answer, run.state.plan, shortfall, run.usage, work.seconds)


def _written(run: Run, stopped: str) -> str:
    state = run.state
    return write_answer(
        state.prompt,
        state.plan,
        states=state.states,
        results=state.results,
        failures=failures(state),
        stopped=stopped,
        answered=state.answered,
        made=run.registry.made,
        reused=run.registry.reused,
        lessons=state.lessons,
        facts=state.facts,
        remarks=state.remarks,
        schema=state.answer_schema,
        model=run.model,
        on_delta=lambda text: run.emit(events.AnswerDelta(text=text)),
    )


def shortfall_of(state: RunState) -> OrchError | None:
    """The error of a run that came to its end without doing all of its plan.

    A `ProviderError` if resuming the run may do more of it, because a provider was lost.
    """
    if not (state.stranded or state.failed or goal_missed(state)):
        return None
    failures = "\n".join(f"{name}: {reason}" for name, reason in state.failures.items())
    if state.lost & state.failed:
        return ProviderError("A part of the work needs a model that could not be asked.", failures)
    return RunFailed("A part of the work failed; the answer says which.", failures)


# --- its end


def _finished(run: Run, work: _Work, seconds: float) -> events.RunFinished:
    error = as_orch_error(work.error, run.id, run.state.open) if work.error is not None else None
    return events.RunFinished(
        outcome=outcome_of(error),
        answer=work.answer,
        error=str(error) if error is not None else None,
        exit_code=error.exit_code if error is not None else 0,
        seconds=seconds,
        usage=run.usage,
        files=run.state.files,
    )
