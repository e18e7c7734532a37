"""A plan within its Prefect flow run: paused, cancelled or done as the scheduler ends."""

from contextlib import suppress
from typing import Any

from orchestrator_cli import events
from orchestrator_cli.engine.artifacts import Artifacts
from orchestrator_cli.engine.flow_run import current_flow_run, ending
from orchestrator_cli.errors import ApprovalNeeded, Interrupted
from orchestrator_cli.execution.run import Run
from orchestrator_cli.execution.scheduler import Scheduler
from orchestrator_cli.planning.context import PlannerContext


def run_flow(run: Run, context: PlannerContext, artifacts: Artifacts) -> None:
    """Carry out the plan of a run. Raises as `Scheduler.carry_out` does."""
    paused: list[ApprovalNeeded] = []

    def work() -> Any:
        name, url = current_flow_run()
        if name != run.state.flow_run:
            run.emit(events.FlowStarted(flow_run=name, url=url))
        artifacts.show_plan(run.state.plan, "The plan")
        try:
            Scheduler(run, context, artifacts).carry_out()
        except ApprovalNeeded as exc:
            paused.append(exc)
            return ending(exc)
        return None

    try:
        run.flow_run.carry_out(work)
    except KeyboardInterrupt:
        run.cancellation.cancel(Interrupted("The run was interrupted."))
        with suppress(Exception):
            run.flow_run.await_end()
        raise
    if paused:
        raise paused[0]
