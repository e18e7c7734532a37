"""How a subtask of each kind is done: an attempt, from its spec to its outcome."""

from pydantic import JsonValue

from orchestrator_cli.approvals.questions import subtask_question
from orchestrator_cli.execution.attempt import (
    Attempt,
    AttemptFailed,
    AttemptOutcome,
    AttemptServices,
    AttemptSpec,
    ErrorValue,
    Host,
    misfit,
)
from orchestrator_cli.execution.processes import run_process


def run_attempt(spec: AttemptSpec, services: AttemptServices, host: Host) -> AttemptOutcome:
    """Make an attempt. Whatever ends it short of an interrupt is in the outcome."""
    attempt = Attempt(spec, services, host)
    try:
        value = _value(attempt)
        host.cancellation.check()
    except Exception as exc:
        return AttemptOutcome(usage=attempt.usage, error=ErrorValue.of(exc))
    return AttemptOutcome(value=value, surprise="\n".join(attempt.surprises) or None, usage=attempt.usage)


def _value(attempt: Attempt) -> JsonValue:
    """Raises whatever ends the attempt."""
    subtask = attempt.subtask
    match subtask.kind:
        case "answer":
            return subtask.instruction
        case "human":
            return attempt.services.ask(subtask_question(subtask, attempt.spec.inputs)).value
        case "process":
            value = run_process(attempt)
            process = attempt.spec.process
            if reason := misfit(process.result if process else None, value) or attempt.refusal(value):
                raise AttemptFailed(reason)
            return value
        case "tool" | "agent":
            # smolagents takes half a second to import, and the other kinds do without it.
            from orchestrator_cli.execution.agents import run_in_sandbox

            return run_in_sandbox(attempt)
