"""A subtask of kind process: a command or a Prefect flow that the user registered.

It runs on the host with the user's rights, in the subtask's checkout, so that what it changes
there is committed like any other subtask's work. Its inputs are JSON on standard input, or arguments; its
value is what it prints, as JSON where that is JSON. An exit code other than 0 is a failure.

Not covered: what it does to the workspace by its own path instead of the folder it is started in,
and what the files that it reads make it do. A program or script that its command names is not run
where this run wrote it, whatever comes before it and whichever links lead to it; a program that runs
whatever a folder holds (make, a test runner) is the user's to register or not.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence

from pydantic import JsonValue

from orchestrator_cli.approvals.broker import wish
from orchestrator_cli.approvals.effects import EffectCall, EffectFailed, EffectOutcome, EffectRefused
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.durable.json_text import refuse_constant
from orchestrator_cli.errors import UsageError
from orchestrator_cli.events import ToolCalled
from orchestrator_cli.execution.attempt import SHOWN_CHARS, Attempt, AttemptFailed, CheckoutRef, pretty
from orchestrator_cli.execution.run import Run
from orchestrator_cli.json_schema import misfits
from orchestrator_cli.plan import Plan, Subtask
from orchestrator_cli.process_settings import Process, arguments_of
from orchestrator_cli.subprocesses.command import OUT_BYTES, CommandResult, run_command
from orchestrator_cli.workspace.commands import files_named
from orchestrator_cli.workspace.followed import is_script

ERR_CHARS = 600
KEY, OCCASION = "ORCH_IDEMPOTENCY_KEY", "ORCH_OCCASION"
LONGEST_S = 86_400.0


def run_process(attempt: Attempt) -> JsonValue:
    """Run the process of a subtask and return its value.

    Raises `AttemptFailed`, `EffectFailed`, `EffectRefused`, `ApprovalNeeded`, and the reason of the
    cancellation when nothing of it runs any more.
    """
    spec, services = attempt.spec, attempt.services
    process, name = spec.process, spec.subtask.process or ""
    if process is None:
        raise AttemptFailed(f"there is no process {name}")
    _check_inputs(name, process, spec.inputs)
    argv, given = call_of(process, spec.inputs, spec.run, spec.subtask.id)
    env = {OCCASION: spec.surroundings.occasion} if spec.surroundings.occasion else {}
    if not process.effects:
        return _emitted(attempt, lambda: run(argv, given, env, spec.place, attempt.cancellation))
    call = EffectCall(spec.subtask.id, spec.attempt, f"process {name}", spec.inputs)
    grant = services.begin_effect(call)
    if not grant.key:
        return grant.value
    env, ok, outcome = {**env, KEY: grant.key}, False, None
    try:
        value = _emitted(attempt, lambda: run(argv, given, env, spec.place, attempt.cancellation))
        ok, outcome = True, EffectOutcome(value, tuple(services.changed_files()))
        return value
    except EffectFailed as exc:
        outcome = EffectOutcome(str(exc))
        raise
    finally:
        services.end_effect(grant.key, ok, outcome)


def allow_process(run: Run, subtask: Subtask) -> None:
    """Ask whether the process of a subtask may run at all. Raises `EffectRefused` and `ApprovalNeeded`."""
    name = subtask.process or ""
    process = run.settings.processes[name]
    if not process.effects:
        return
    question = wish(f"The process `{name}`", "to run, with your rights", process.when)
    granted = name in run.settings.allow_processes
    what = process.flow or process.shown_command
    run.effects.allow(f"process {name}", question, what, granted=granted)


def plan_of(name: str, process: Process, inputs: Mapping[str, JsonValue], retries: int = 0) -> Plan:
    """The plan that runs a process and nothing else. Raises `UsageError` if the inputs do not fit."""
    if process.inputs is not None and (found := misfits(process.inputs, dict(inputs))):
        raise UsageError(f"The inputs are not those of the process {name}: {found[0].message[-240:]}")
    only = Subtask(
        id="process",
        title=f"Run {name}",
        kind="process",
        process=name,
        inputs=dict(inputs),
        retries=retries,
        on_failure="abort",
        timeout_s=process.timeout_s or LONGEST_S,
    )
    return Plan(goal=f"{name} has run", subtasks=(only,))


def call_of(process: Process, inputs: Mapping[str, JsonValue], *labels: str) -> tuple[tuple[str, ...], str]:
    """What is started, and its standard input; `labels` are tags of a flow's run. Raises `AttemptFailed`."""
    if process.flow is not None:
        flow = (sys.executable, "-P", "-m", "orchestrator_cli.engine.user_flow", process.flow, *labels)
        return flow, json.dumps(dict(inputs))
    if process.arguments is None:
        return process.command, json.dumps(dict(inputs))
    try:
        return (*process.command, *arguments_of(process.arguments, inputs)), ""
    except ValueError as exc:
        raise AttemptFailed(f"the inputs cannot be passed on: {exc}") from exc


def run(
    argv: Sequence[str],
    given: str,
    env: Mapping[str, str],
    checkout: CheckoutRef,
    cancellation: Cancellation,
) -> JsonValue:
    """The value of a command. Raises `EffectFailed` where it ended with another exit code than 0."""
    ended = run_command(
        [*checkout.entrance, *argv],
        cwd=None if checkout.entrance else checkout.folder,
        given=given,
        env=env,
        cancellation=cancellation,
    )
    if ended.code:
        said = (ended.err.strip() or ended.out.strip())[-ERR_CHARS:]
        raise EffectFailed(f"it ended with exit code {ended.code}{': ' if said else ''}{said}")
    return value_of(ended)


def value_of(ended: CommandResult) -> JsonValue:
    """What a command printed, as JSON where it is JSON; what is too long is cut."""
    text = ended.out.strip()
    if ended.cut:
        return f"{text}\n… (it printed more than {OUT_BYTES:,} bytes)"
    try:
        value: JsonValue = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return text
    return value


def check_program(run: Run, process: Process) -> None:
    """Raise `EffectRefused` if this run wrote the program of a process, or a script that it names."""
    command = (process.flow.rpartition(":")[0],) if process.flow is not None else process.command
    root, written = run.workspace.root, run.workspace.written()
    if not written:
        return
    programs = written.intersection(files_named(command[:1], root, root))
    with run.workspace.tree() as tree:
        states = {path: tree.stat(path) for path in written.intersection(files_named(command, root, root))}
    found = (path for path, state in states.items() if is_script(path, state) or (state and state.target))
    if ran := sorted({*programs, *found}):
        raise EffectRefused(
            f"{ran[0]} was written in this run, and a process does not run what a model wrote"
        )


def _check_inputs(name: str, process: Process, inputs: Mapping[str, JsonValue]) -> None:
    if process.inputs is None:
        return
    if found := misfits(process.inputs, dict(inputs)):
        raise AttemptFailed(f"the inputs are not those of the process {name}: {found[0].message[-240:]}")


def _emitted(attempt: Attempt, call: Callable[[], JsonValue]) -> JsonValue:
    """Make the call and emit its outcome."""
    spec = attempt.spec

    def emit(outcome: str, *, ok: bool) -> None:
        attempt.services.emit(
            ToolCalled(
                subtask=spec.subtask.id,
                attempt=spec.attempt,
                tool=f"process {spec.subtask.process}",
                arguments=dict(spec.inputs),
                outcome=outcome[:SHOWN_CHARS],
                ok=ok,
            )
        )

    try:
        value = call()
    except Exception as exc:
        emit(str(exc), ok=False)
        raise
    emit(value if isinstance(value, str) else pretty(value), ok=True)
    return value
