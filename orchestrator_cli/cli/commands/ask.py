"""`orch ask`, `run`, `plan` and `demo`: run a prompt or a process, show a plan, or watch a recorded run."""

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, cast

import typer
from pydantic import JsonValue

from orchestrator_cli.cli.detached import arguments_of, check_detach, print_started, start_detached
from orchestrator_cli.cli.foreground import ForegroundRun, confirm_no_sandbox
from orchestrator_cli.cli.formats import forms_of_plan, print_formatted
from orchestrator_cli.cli.mentions import NOTHING_NAMED, attached_lines, mentions
from orchestrator_cli.cli.options import (
    AnswerOptions,
    Attach,
    Background,
    Detach,
    FileOptions,
    Folder,
    FormatOptions,
    LimitOptions,
    Mark,
    MaxParallel,
    ModelName,
    Network,
    NoReuse,
    NoSandbox,
    Output,
    PermissionOptions,
    Prompt,
    SessionOptions,
    with_options,
)
from orchestrator_cli.cli.reporting import reporting, run_flags, run_settings
from orchestrator_cli.errors import UsageError
from orchestrator_cli.execution.processes import plan_of
from orchestrator_cli.models.model import Model
from orchestrator_cli.models.sources import (
    GivenModel,
    LiveModels,
    ModelFree,
    RecordedModel,
    Recording,
    RecordingModel,
)
from orchestrator_cli.orchestrator import plan_prompt
from orchestrator_cli.planning.data_answer import check_schema
from orchestrator_cli.planning.structured_output import coerce_to_schema
from orchestrator_cli.process_settings import Process
from orchestrator_cli.recall.named_files import read_named
from orchestrator_cli.recall.written_files import PRINTED, check_written
from orchestrator_cli.runtime import checked_prompt, open_run
from orchestrator_cli.settings import Settings
from orchestrator_cli.values import PromptOptions
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.notes import Notes

app = typer.Typer(rich_markup_mode=None)
MAX_SCHEMA_BYTES = 1 << 20


@app.command()
@with_options
def ask(
    prompt: Prompt = "-",
    *,
    model: ModelName = None,
    workspace: Folder = None,
    conversation: SessionOptions,
    files: FileOptions,
    output: Output,
    limits: LimitOptions,
    max_parallel: MaxParallel = None,
    permissions: PermissionOptions,
    answers: AnswerOptions,
    no_reuse: NoReuse = False,
    unsafe_no_sandbox: NoSandbox = False,
    detach: Detach = False,
    background: Background = "",
    mark: Mark = "",
) -> None:
    """Run one prompt and print the answer."""
    with reporting(output) as console:
        check_detach(detach=detach, unsafe=unsafe_no_sandbox)
        unsafe = confirm_no_sandbox(asked=unsafe_no_sandbox, yes=permissions.yes)
        settings = run_settings(
            workspace,
            asks=output.is_for_people,
            mark=mark,
            model=model,
            max_parallel=max_parallel,
            reuse="never" if no_reuse else None,
            **run_flags(limits, permissions),
        )
        options = options_of(files, prompt, settings, console)
        is_shown = not detach and not (output.quiet or output.as_json or output.stream_json)
        if not is_shown:  # otherwise the run shows them
            followed_only = not detach or not output.is_for_people
            console.lines(attached_lines(options.attach, settings, followed_only=followed_only))
        if detach:
            known = arguments_of(limits, permissions, model=model, max_parallel=max_parallel)
            more = arguments_of(
                no_reuse=no_reuse,
                session=conversation.session,
                attach=list(options.attach),
                schema=files.schema.expanduser().absolute() if files.schema else None,
                speak=options.speak,
                **{"continue": conversation.goes_on},
            )
            begun = start_detached(
                settings, ("ask", "-", *known, *more), known, _read(prompt), answers.patience
            )
            print_started(begun, console, output)
            return
        patience = answers.patience
        run = ForegroundRun(settings, output, console, unsafe=unsafe, run=background, patience=patience)
        if conversation.goes_on or conversation.session is not None:
            name = conversation.session or ""
            run.ask_in_session(_read(prompt), options, name=name, goes_on=conversation.goes_on)
        else:
            run.ask(_read(prompt), options, learns=True)


def options_of(files: FileOptions, prompt: str, settings: Settings, console: Console) -> PromptOptions:
    """What goes with a prompt; `prompt` is as it was typed, and names files with @."""
    typed = mentions(prompt, settings.workspace) if prompt != "-" else NOTHING_NAMED
    if typed.missing:
        console.lines(typed.notes)
    attach = (*(path.expanduser().absolute() for path in files.attach or ()), *typed.files)
    return PromptOptions(
        attach=tuple(dict.fromkeys(path.absolute() for path in attach)),
        answer_schema=read_schema(files.schema, settings) if files.schema else None,
        speak=files.speak.expanduser().absolute() if files.speak else None,
    )


def read_schema(path: Path, settings: Settings) -> dict[str, JsonValue]:
    """The JSON Schema in a file. Raises `UsageError`."""
    try:
        found: JsonValue = json.loads(read_named(path.expanduser(), settings, MAX_SCHEMA_BYTES))
    except OSError as exc:
        raise UsageError(f"The schema {path} cannot be read: {exc.strerror}.", "Name a file.") from exc
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"The schema {path} is not JSON: {exc}.", "Correct it.") from exc
    check_schema(found)
    return cast(dict[str, JsonValue], found)


@app.command("run")
@with_options
def run_command(
    process: Annotated[str, typer.Argument(metavar="PROCESS", help="Its name in orch.toml.")],
    given: Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUE", help="Its inputs.")] = None,
    *,
    retries: Annotated[int, typer.Option(min=0, max=5, help="Retry up to this many times if it fails.")] = 0,
    answers: AnswerOptions,
    workspace: Folder = None,
    output: Output,
    detach: Detach = False,
    background: Background = "",
    mark: Mark = "",
) -> None:
    """Run one of your processes as a run of its own, without a model: recorded, and with an undo."""
    with reporting(output) as console:
        settings = run_settings(workspace, asks=output.is_for_people, mark=mark, allow_processes=[process])
        if process not in settings.processes:
            raise no_process(process, settings)
        inputs = inputs_of(given or [], settings.processes[process])
        plan = plan_of(process, settings.processes[process], inputs, retries)
        if detach:
            command = ("run", process, *(given or []), f"--retries={retries}")
            begun = start_detached(settings, command, patience=answers.patience)
            print_started(begun, console, output)
            return
        with_what = f" with {json.dumps(inputs, ensure_ascii=False)}" if inputs else ""
        prompt = f"Run the process {process}{with_what} and give its result as JSON."
        source = GivenModel(ModelFree())
        run = ForegroundRun(settings, output, console, source, run=background, patience=answers.patience)
        run.carry_out(prompt, plan)


def no_process(name: str, settings: Settings) -> UsageError:
    """The error of a name that no process has."""
    names = ", ".join(settings.processes) or "none"
    return UsageError(
        f"There is no process {name}.", f"There are: {names}. Add some with: orch scripts add FOLDER"
    )


def inputs_of(given: Sequence[str], process: Process) -> dict[str, JsonValue]:
    """The inputs that `NAME=VALUE` say, each of the type that the process wants. Raises `UsageError`."""
    return named_values(given, process.inputs)


def named_values(given: Sequence[str], schema: Mapping[str, JsonValue] | None) -> dict[str, JsonValue]:
    """The values that `NAME=VALUE` say, each of the type that the JSON Schema of an object wants.

    Raises `UsageError`.
    """
    wanted = (schema or {}).get("properties")
    schemas = wanted if isinstance(wanted, dict) else {}
    inputs: dict[str, JsonValue] = {}
    for one in given:
        name, sign, text = one.partition("=")
        if not sign:
            raise UsageError(f"{one} does not say what it is.", "Write it as NAME=VALUE.")
        of_name = schemas.get(name)
        inputs[name] = coerce_to_schema(text, of_name if isinstance(of_name, dict) else None)
    return inputs


@app.command()
@with_options
def plan(
    prompt: Prompt = "-",
    *,
    model: ModelName = None,
    common: FormatOptions,
    network: Network = None,
    no_reuse: NoReuse = False,
    attach: Attach = None,
) -> None:
    """Show the task graph of a prompt without running it."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        settings = run_settings(
            common.workspace,
            asks=common.wanted != "json",
            model=model,
            network=network or None,
            reuse="never" if no_reuse else None,
        )
        text = checked_prompt(_read(prompt), settings.home)
        if common.output is not None:
            check_written(common.output, settings, instead=PRINTED)
        options = options_of(FileOptions(attach=attach), prompt, settings, console)
        console.lines(attached_lines(options.attach, settings))
        with open_run(settings, [Notes(console.lines)], wants_engine=False) as run:
            made = plan_prompt(text, run, options=options)
        print_formatted(common, forms_of_plan(text, made), settings)


def _read(prompt: str) -> str:
    if prompt != "-":
        return prompt
    if sys.stdin.isatty():
        raise UsageError("There is no prompt.", 'Say what you want done: orch ask "…", or run orch alone.')
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as exc:
        raise UsageError("The prompt on standard input is not UTF-8 text.", "Convert it first.") from exc


# --- the demo


PROMPT = (
    "Create an empty file new.txt. Find inventive ways to handle files in Python, and show them by "
    "changing new.txt with code run in the interpreter, never with the file tools. Keep a log of every "
    "code operation in fileLog.md. Prove that the file was really changed. If a custom tool is needed, "
    "build it and document its name and functions in fileLog.md."
)
FOLDER = Path("orch-demo")
LEFT_BEHIND = {"new.txt", "fileLog.md"}
NAMES = {False: "recorded", True: "recorded again"}
"""The name of the model in the record of a first run (False) and of a second one."""
RECORDED = "The model's replies are recorded; everything else is real."


@app.command()
@with_options
def demo(
    *,
    workspace: Folder = None,
    again: Annotated[
        bool, typer.Option("--again", help="Repeat the prompt, with the first run and its tool remembered.")
    ] = False,
    output: Output,
    record: Annotated[bool, typer.Option("--record", hidden=True)] = False,
    reuse: Annotated[bool, typer.Option("--reuse", hidden=True)] = False,
) -> None:
    """Watch a prompt run on recorded model replies; everything else is real."""
    with reporting(output) as console:
        folder = prepare_workspace(workspace or FOLDER)
        settings = run_settings(folder, asks=output.is_for_people)
        home = settings.home / "demo"
        prepare_home(home, again=again)
        settings = settings.model_copy(
            update={"prefect_home": settings.prefect_home or settings.home, "home": home}
        )
        if record:
            with recording(again=again, reuse=reuse) as recorder:
                ForegroundRun(settings, output, console, LiveModels(recorder)).ask(PROMPT)
            return
        if not (output.quiet or output.as_json or output.stream_json):
            console.lines([RECORDED, "", PROMPT, ""])
        source = GivenModel(recorded_model(again=again))
        ForegroundRun(settings, output, console, source).ask(PROMPT)


def recording_path(*, again: bool) -> Path:
    """The recording that ships with the program."""
    name = "demo-again.json" if again else "demo.json"
    return Path(str(resources.files("orchestrator_cli") / "recordings" / name))


def recorded_model(*, again: bool, resumed: bool = False) -> RecordedModel:
    """The model whose replies are played back. Raises `RunFailed` if the recording is broken."""
    recording = Recording.read(recording_path(again=again))
    return RecordedModel(recording, name=NAMES[again], resumed=resumed)


def model_of(names: Collection[str]) -> RecordedModel | None:
    """The model with which to resume a demo, from the model names in its record; None for any other run."""
    for again, name in NAMES.items():
        if set(names) == {name}:
            return recorded_model(again=again, resumed=True)
    return None


@contextlib.contextmanager
def recording(*, again: bool, reuse: bool) -> Iterator[Callable[[Model], Model]]:
    """Record the replies of the configured model, and write the recording if the run succeeds.

    With `reuse`, a request whose name is in the present recording gets that reply again: for a prompt
    whose wording changed and whose answer did not.
    """
    path = recording_path(again=again)
    known = Recording.read(path) if reuse else None
    made = Recording()
    yield lambda model: RecordingModel(model, made, known)
    path.parent.mkdir(exist_ok=True)
    made.write(path)


def prepare_workspace(folder: Path) -> Path:
    """An empty workspace for the demo. Raises `UsageError` rather than touch a folder with other files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise UsageError(
            f"{folder} cannot be used for the demo: {exc.strerror}.", "Name a folder with -C."
        ) from exc
    others = sorted({path.name for path in folder.iterdir()} - LEFT_BEHIND)
    if others:
        raise UsageError(
            f"{folder} holds other files ({', '.join(others[:3])}), and the demo needs a folder of its own.",
            "Name an empty or new one with -C.",
        )
    (folder / "new.txt").unlink(missing_ok=True)
    return folder


def prepare_home(home: Path, *, again: bool) -> None:
    """Delete what earlier demos remembered and built. With `again`, keep it; it has to exist."""
    kept = [home / "memory", home / "tools"]
    if again:
        if not all(folder.exists() for folder in kept):
            raise UsageError("There is no demo to repeat yet.", "Run orch demo first.")
        return
    for folder in kept:
        shutil.rmtree(folder, ignore_errors=True)
