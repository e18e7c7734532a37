"""A schedule as a flow that a worker of Prefect runs: `orch deploy` names `run` as the entrypoint.

The worker's machine has its own installation, data folder, keys and workspace. There the flow starts the run
as `orch up` would, in a process of its own with a journal, and waits for its end. The flow run gets the name
of the run, whose graph is then on its page. Its states are those that this flow returns: the run sends none.
A flow run that is tried again resumes the run.

Not covered: `missed`, because a worker runs all that was missed, and triggers besides times, which need
`orch up`.
"""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, get_client, get_run_logger
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Cancelled, Completed, Failed

from orchestrator_cli.approvals.inbox import send_cancel
from orchestrator_cli.engine.connection import REPLY_BYTES
from orchestrator_cli.environment import name_deployed_run
from orchestrator_cli.errors import OrchError, UsageError
from orchestrator_cli.http_clients import httpx_options
from orchestrator_cli.runs.background import BackgroundRun, background_of, begin, go_on, not_started
from orchestrator_cli.runs.find import PastRun, look_at, past_run
from orchestrator_cli.runtime import RUN_ID, new_run_id
from orchestrator_cli.schedules.limits import left_today
from orchestrator_cli.schedules.schedule import Schedule
from orchestrator_cli.settings import load_settings
from orchestrator_cli.trust import skip_untrusted

OPTIONS = (
    *("--max-cost", "--max-calls", "--max-tokens", "--timeout", "--model"),
    *("--allow-unpriced", "--network", "--allow-process", "--approve", "--yes"),
)
"""What `orch schedule add` has for its runs. The server may name no other, such as one for no sandbox."""
LOOK_S = 0.5
END_S = 30.0
"""For a run that is cancelled to end."""


@flow(name="orch", validate_parameters=False, persist_result=False)
def run(schedule: dict[str, Any], folder: str | None = None) -> State[Any]:
    """Run a schedule once; `folder`: on this machine, by default the one that the job begins in."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    workspace = Path(folder) if folder else Path.cwd()
    workspace.mkdir(parents=True, exist_ok=True)
    try:
        one = Schedule.model_validate(schedule | {"workspace": str(workspace.resolve())})
        check_given(one)
        home = load_settings({}, workspace, skip_untrusted).home
        return _run(one, home, context.flow_run.id, context.flow_run.name)
    except (OrchError, ValueError, OSError) as exc:
        return Failed(message=str(exc))


def check_given(one: Schedule) -> None:
    """Raise `UsageError` for what is no schedule of `orch schedule add`: the server is another's."""
    options = [argument.partition("=")[0] for argument in one.arguments]
    names = [one.process, *one.inputs]
    if wrong := [name for name in options if name not in OPTIONS] + [n for n in names if n.startswith("-")]:
        raise UsageError(f"A deployment may not give {wrong[0][:100]!r}.", "Deploy the schedule again.")


def _run(one: Schedule, home: Path, flow_run: UUID, name: str) -> State[Any]:
    """Begin the run, or go on with the one that this flow run began, and wait until it has ended."""
    named = PastRun(name, home, Path(one.workspace))
    begun = background_of(named) if RUN_ID.fullmatch(name) else None
    is_own = begun is not None and (begun.flow_run, begun.schedule) == (str(flow_run), one.name)
    past = named if is_own else replace(named, run=new_run_id())
    name_deployed_run(past.run)
    if past.journal.exists():
        process = go_on(past_run(past.journal) or past)
    else:
        left = left_today(home, one)
        if left is not None and left <= 0:
            return Cancelled(message=f"its runs of today have cost {one.max_cost_day:g} dollars")
        with get_client(sync_client=True, httpx_settings=httpx_options(REPLY_BYTES)) as client:
            client.update_flow_run(flow_run, name=past.run)
        limit = () if left is None or one.process else (f"--max-cost={left:.4f}",)
        # It is settled: no `orch up` of this machine deals with it.
        about = BackgroundRun(
            arguments=(*one.arguments, *limit),
            patience=one.patience,
            schedule=one.name,
            flow_run=str(flow_run),
            is_settled=True,
        )
        process = begin(past, (*one.command, *limit), one.prompt, about)
    get_run_logger().info(f"orch run {past.run} on {os.uname().nodename}, in {past.folder}")
    try:
        process.wait()
    except BaseException:  # the worker cancels it
        send_cancel(past.folder, "the worker was asked to end it")
        until = time.monotonic() + END_S
        while process.poll() is None and time.monotonic() < until:
            time.sleep(LOOK_S)
        process.terminate()
        raise
    return _state_of(past, process.returncode)


def _state_of(past: PastRun, code: int) -> State[Any]:
    """How a run has ended, for Prefect."""
    if not past.journal.exists():
        raise not_started(past, code)
    found = look_at(past)
    end = found.state.finished
    message = (end.error or "").partition("\n")[0] if end else "Its process died."
    if found.status == "completed":
        return Completed(message=message or None)
    if found.status == "cancelled":
        return Cancelled(message=message)
    if found.status == "paused":
        message = f"{message} Answer it on {os.uname().nodename}: orch approve {past.run}. Then retry."
    return Failed(message=message)
