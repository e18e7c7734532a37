"""A subtask of kind process: a command or a Prefect flow that the user registered.

It runs on the host with the user's rights, in the subtask's checkout, so that what it changes
there is committed like any other subtask's work. Its inputs are JSON on standard input; its value
is what it prints, as JSON where that is JSON. An exit code other than 0 is a failure.

Not covered: what it does to the workspace by its own path instead of the folder it is started in,
and what the files that it reads make it do. The program that is named in its command is not run
where this run wrote it; a program that runs whatever a folder holds (make, a test runner) is the
user's to register or not.
"""

import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jsonschema
from pydantic import JsonValue

from orchestrator_cli.approvals.effects import EffectCall, EffectFailed, EffectOutcome, EffectRefused
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.events import ToolCalled
from orchestrator_cli.execution.attempt import SHOWN_CHARS, AttemptFailed, pretty
from orchestrator_cli.execution.context import RunContext
from orchestrator_cli.plan import Subtask
from orchestrator_cli.settings import Process
from orchestrator_cli.subprocesses.command import OUT_BYTES, Ended, run_command
from orchestrator_cli.workspace import Checkout

ERR_CHARS = 600
KEY = "ORCH_IDEMPOTENCY_KEY"
INTERPRETERS = re.compile(r"(ba|da|z|k)?sh|python[\d.]*|node|deno|bun|ruby|perl|php|Rscript|julia|lua")


def run_process(
    context: RunContext,
    subtask: Subtask,
    inputs: Mapping[str, JsonValue],
    *,
    attempt: int,
    checkout: Checkout,
    cancellation: Cancellation,
) -> JsonValue:
    """Run the process of a subtask and return its value.

    Raises `AttemptFailed`, `EffectFailed`, `EffectRefused`, `ApprovalNeeded`, and the reason of
    the cancellation when nothing of it runs any more.
    """
    name = subtask.process or ""
    process = context.settings.processes[name]
    argv = command_of(process, context.run, subtask.id)
    _check_inputs(name, process, inputs)
    _check_program(context, checkout, process)

    def do(key: str = "") -> EffectOutcome:
        env = {KEY: key} if key else {}
        value = _told(
            context, subtask, attempt, inputs, lambda: run(argv, inputs, env, checkout, cancellation)
        )
        return EffectOutcome(value, tuple(checkout.written_paths()))

    foreign = name in context.settings.foreign
    if process.effects or foreign:
        whose = ", which orch.toml of this workspace registers," if foreign else ""
        question = f"The process `{name}` ({process.when.rstrip('.')}){whose} wants to run, with your rights."
        what = process.flow or shlex.join(process.command)
        context.effects.allow(f"process {name}", question, what, always=foreign)
    if not process.effects:
        return do().value
    call = EffectCall(subtask.id, attempt, f"process {name}", inputs)
    return context.effects.once(call, do).value


def command_of(process: Process, *labels: str) -> tuple[str, ...]:
    """What is started; the `labels` are tags of a flow's run."""
    if process.flow is None:
        return process.command
    return (sys.executable, "-P", "-m", "orchestrator_cli.engine.user_flow", process.flow, *labels)


def run(
    argv: Sequence[str],
    inputs: Mapping[str, JsonValue],
    env: Mapping[str, str],
    checkout: Checkout,
    cancellation: Cancellation,
) -> JsonValue:
    """The value of a command. Raises `EffectFailed` where it ended with another exit code than 0."""
    ended = run_command(
        [*checkout.entrance, *argv],
        cwd=None if checkout.entrance else checkout.folder,
        given=json.dumps(dict(inputs)),
        env=env,
        cancellation=cancellation,
    )
    if ended.code:
        said = (ended.err.strip() or ended.out.strip())[-ERR_CHARS:]
        raise EffectFailed(f"it ended with exit code {ended.code}{': ' if said else ''}{said}")
    return value_of(ended)


def value_of(ended: Ended) -> JsonValue:
    """What a command printed, as JSON where it is JSON; what is too long is cut."""
    text = ended.out.strip()
    if ended.cut:
        return f"{text}\n… (it printed more than {OUT_BYTES:,} bytes)"
    try:
        value: JsonValue = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text
    return value


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def program_files(process: Process) -> list[str]:
    """What a process executes, as it stands in its command: the program, and an interpreter's script."""
    if process.flow is not None:
        return [process.flow.rpartition(":")[0]]
    first, *rest = process.command
    if not INTERPRETERS.fullmatch(Path(first).name):
        return [first]
    return [first, *[part for part in rest if not part.startswith("-")][:1]]


def _check_program(context: RunContext, checkout: Checkout, process: Process) -> None:
    """Raise `EffectRefused` where a program that the process names was written by this run."""
    inside = {os.path.normpath(path) for path in program_files(process)}
    if not any((checkout.root / path).exists() for path in inside):
        return
    root = f"{context.workspace.root}{os.sep}"
    if written := sorted({path.removeprefix(root) for path in inside} & context.workspace.written()):
        raise EffectRefused(
            f"{written[0]} was written in this run, and a process does not run what a model wrote"
        )


def _check_inputs(name: str, process: Process, inputs: Mapping[str, JsonValue]) -> None:
    if process.inputs is None:
        return
    fault = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(process.inputs).iter_errors(dict(inputs))
    )
    if fault is not None:
        raise AttemptFailed(f"the inputs are not those of the process {name}: {fault.message[-240:]}")


def _told(
    context: RunContext,
    subtask: Subtask,
    attempt: int,
    inputs: Mapping[str, JsonValue],
    call: Callable[[], JsonValue],
) -> JsonValue:
    """Make a call and emit what came of it."""

    def tell(outcome: str, *, ok: bool) -> None:
        context.emit(
            ToolCalled(
                subtask=subtask.id,
                attempt=attempt,
                tool=f"process {subtask.process}",
                arguments=dict(inputs),
                outcome=outcome[:SHOWN_CHARS],
                ok=ok,
            )
        )

    try:
        value = call()
    except Exception as exc:
        tell(str(exc), ok=False)
        raise
    tell(value if isinstance(value, str) else pretty(value), ok=True)
    return value
