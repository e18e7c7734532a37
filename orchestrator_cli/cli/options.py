"""The options that commands share, each defined once, and the sets in which commands take them.

A command names a set as one parameter, and `with_options` gives typer its fields as options. Options may be
given before the command or after it.
"""

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer._click.exceptions import MissingParameter
from typer.core import TyperGroup, TyperOption

from orchestrator_cli.durable.lengths import seconds_of
from orchestrator_cli.errors import UsageError

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter

    from orchestrator_cli.approvals.deadlines import Patience

LONGEST_S = 52 * 604_800.0
"""How long a question can wait."""

ModelName = Annotated[
    str | None,
    typer.Option("-m", "--model", metavar="MODEL", help="Use this model, by LiteLLM's name."),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "-C", "--workspace", metavar="FOLDER", help="Work in this folder (default: the current one)."
    ),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print the answer and nothing else.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show every step.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsFormat = Annotated[
    Literal["text", "tree", "json", "mermaid", "dot", "svg", "html"] | None,
    typer.Option("--format", help="Print it as text (the default), as a tree, or in one of these formats."),
]
OutFile = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write it to this file instead.")
]
RunAsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object about the run.")]
StreamJson = Annotated[bool, typer.Option("--stream-json", help="Print every event as a line of JSON.")]
MaxCost = Annotated[
    float | None, typer.Option(metavar="DOLLARS", help="End the run at this many US dollars.")
]
AllowUnpriced = Annotated[
    bool | None,
    typer.Option("--allow-unpriced", help="With --max-cost, also use models whose price is not known."),
]
MaxCalls = Annotated[int | None, typer.Option(metavar="N", help="End the run at this many model calls.")]
MaxTokens = Annotated[int | None, typer.Option(metavar="N", help="End the run at this many tokens.")]
Timeout = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="End the run after this many seconds.")
]
MaxParallel = Annotated[int | None, typer.Option(metavar="N", help="Run at most this many subtasks at once.")]
Network = Annotated[
    list[str] | None,
    typer.Option(
        "--network", metavar="DOMAIN", help="Let code reach this domain without asking; repeat for more."
    ),
]
NoReuse = Annotated[
    bool, typer.Option("--no-reuse", help="Make a new plan, even if an earlier one did well.")
]
AllowProcess = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-process", metavar="NAME", help="Let this process run without asking; repeat for more."
    ),
]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Answer every question with yes.")]
Approve = Annotated[
    str | None,
    typer.Option(
        "--approve",
        metavar="KINDS",
        help="Ask before more than the default: plan, tools, writes; or all, or none.",
    ),
]
NoSandbox = Annotated[
    bool,
    typer.Option(
        "--unsafe-no-sandbox",
        help="Run code written by a model WITHOUT A SANDBOX, with all your rights. Asks you to confirm.",
    ),
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Run it in the background, and print the id of the run at once.")
]
Background = Annotated[str, typer.Option("--background", hidden=True)]
"""The id of the run that this process is for, which has no terminal."""
AnswerWithin = Annotated[
    str | None,
    typer.Option(
        "--answer-within",
        metavar="TIME",
        help="Without a terminal, wait this long for an answer, such as 30m, 2h or 1d; "
        "then refuse what asks for permission.",
    ),
]
DefaultAnswer = Annotated[
    str | None,
    typer.Option(
        "--default-answer",
        metavar="TEXT",
        help="With --answer-within, give this answer to a question in words when the time is up.",
    ),
]
Mark = Annotated[str, typer.Option("--mark", hidden=True)]
"""Of the workspace, as the process that starts this one has found it; see `same_folder`."""
Continue = Annotated[bool, typer.Option("-c", "--continue", help="Continue this workspace's last session.")]
SessionName = Annotated[
    str | None, typer.Option("--session", metavar="NAME", help="Continue this session, or start it.")
]
Attach = Annotated[
    list[Path] | None,
    typer.Option(
        "--attach",
        metavar="FILE",
        help="Give this file to the models: text, PDF, Office, image or recording; repeat for more.",
    ),
]
SchemaFile = Annotated[
    Path | None,
    typer.Option(
        "--schema", metavar="FILE", help="Print the answer as JSON that satisfies this JSON Schema."
    ),
]
SpeechFile = Annotated[
    Path | None,
    typer.Option("--speak", metavar="FILE", help="Also write the answer to this file as sound."),
]
Prompt = Annotated[str, typer.Argument(help="What you want done; - reads it from standard input.")]
RunName = Annotated[
    str,
    typer.Argument(metavar="RUN", help="The run's id, the end of it, or `last`: the newest in this folder."),
]
ChangedRunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="The run's id, the end of it, or `last`: the newest in this folder that changed files.",
    ),
]


def filled(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """For an option whose absence means something: what is given must not be empty.

    A variable of the shell that is not set would leave it out in silence.
    """
    source = ctx.get_parameter_source(param.name or "")
    is_given = source is not None and source.name != "DEFAULT"
    texts = value if isinstance(value, list | tuple) else [value]
    if is_given and any(isinstance(text, str) and not text.strip() for text in texts):
        raise typer.BadParameter("It is empty. Leave it out, or give it a value.")
    return value


# --- sets of options


@dataclass(frozen=True)
class CommonOptions:
    """What every command takes."""

    workspace: Folder = None
    debug: Debug = False


@dataclass(frozen=True)
class InspectOptions(CommonOptions):
    """What commands take that only look at something."""

    as_json: AsJson = False


@dataclass(frozen=True)
class FormatOptions(InspectOptions):
    """What commands take that show a graph."""

    form: AsFormat = None
    output: OutFile = None

    @property
    def wanted(self) -> str:
        """The format. Raises `UsageError` if two were given."""
        if self.as_json and self.form not in (None, "json"):
            raise UsageError(f"--json and --format {self.form} were both given.", "Leave out one of them.")
        return "json" if self.as_json else self.form or "text"


@dataclass(frozen=True)
class Output:
    """What a run prints, and how."""

    quiet: Quiet = False
    verbose: Verbose = False
    as_json: RunAsJson = False
    stream_json: StreamJson = False
    debug: Debug = False

    @property
    def is_for_people(self) -> bool:
        return not (self.as_json or self.stream_json)


@dataclass(frozen=True)
class LimitOptions:
    """The limits of a run, under the names of their settings; None for one that was not given."""

    max_cost: MaxCost = None
    max_calls: MaxCalls = None
    max_tokens: MaxTokens = None
    timeout: Timeout = None


@dataclass(frozen=True)
class PermissionOptions:
    """What a run may do without asking, under the names of the settings."""

    allow_unpriced: AllowUnpriced = None
    network: Network = None
    allow_process: AllowProcess = None
    approve: Approve = None
    yes: Yes = False


@dataclass(frozen=True)
class AnswerOptions:
    """How long questions are open without a terminal, and the answer then."""

    answer_within: AnswerWithin = None
    default_answer: DefaultAnswer = None

    @property
    def patience(self) -> "Patience | None":
        """None without a deadline. Raises `UsageError`."""
        if self.answer_within is None:
            if self.default_answer is not None:
                raise UsageError("--default-answer has no effect without --answer-within.", "Give both.")
            return None
        try:
            seconds = seconds_of(self.answer_within)
        except ValueError as exc:
            raise UsageError(f"{exc}.", "Write --answer-within 30m, 2h or 1d.") from exc
        if not 0 < seconds <= LONGEST_S:
            raise UsageError("--answer-within is more than nothing and at most 52w.", "Write 30m, 2h or 1d.")
        from orchestrator_cli.approvals.deadlines import Patience  # help and version need no pydantic

        return Patience(within_s=seconds, default=self.default_answer)


@dataclass(frozen=True)
class SessionOptions:
    """The session that a prompt belongs to."""

    goes_on: Continue = False
    session: SessionName = None


@dataclass(frozen=True)
class FileOptions:
    """The files that go with a prompt."""

    attach: Attach = None
    schema: SchemaFile = None
    speak: SpeechFile = None


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command for typer: each parameter that is a set of options becomes the options of that set."""
    hints = typing.get_type_hints(command, include_extras=True)
    sets: dict[str, Any] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    parameters = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in sets:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))
            continue
        of_set = typing.get_type_hints(sets[name], include_extras=True)
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=of_set[field.name],
            )
            for field in dataclasses.fields(sets[name])
        ]

    @functools.wraps(command)
    def called(**values: Any) -> None:
        made = {
            name: kind(**{f.name: values.pop(f.name) for f in dataclasses.fields(kind) if f.name in values})
            for name, kind in sets.items()
        }
        command(**values, **made)

    del called.__wrapped__  # typer would read the signature of the command behind it
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


# --- groups of commands


class CommandGroup(TyperGroup):
    """A group whose list of commands has whole sentences, and whose errors say what a missing argument is."""

    def format_commands(self, ctx: "Context", formatter: "HelpFormatter") -> None:
        commands = [self.commands[name] for name in self.list_commands(ctx)]
        rows = [(one.name or "", _first_sentence(one.help or "")) for one in commands if not one.hidden]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def invoke(self, ctx: "Context") -> Any:
        try:
            return super().invoke(ctx)
        except MissingParameter as exc:
            words = exc.message or getattr(exc.param, "help", None) or ""
            # One of several choices is followed by a full stop and their list.
            exc.message = words.rstrip(".") if hasattr(getattr(exc.param, "type", None), "choices") else words
            raise


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", paragraph)[0]


# --- options before the command


class OptionsAnywhere(CommandGroup):
    """The outermost group: it accepts the options of a command before the command as well.

    This holds on every level: in `orch -m X tools build` the option is that of `build`. An option
    that the command does not have, or that is given twice with different values, is a usage error.
    """

    def resolve_command(
        self, ctx: "Context", args: list[str]
    ) -> "tuple[str | None, Command | None, list[str]]":
        name, command, rest = super().resolve_command(ctx, args)
        if not ctx.resilient_parsing and (path := _path(ctx, name, command, rest)):
            _hand_down(ctx, path)
        return name, command, rest


def _path(parent: "Context", name: str | None, command: "Command | None", args: list[str]) -> "list[Context]":
    """The contexts down to the command that will run, parsed leniently; none if there is no such command."""
    path: list[Context] = []
    while command is not None:
        parent = command.make_context(name, list(args), parent=parent, resilient_parsing=True)
        path.append(parent)
        _, args, _ = command.make_parser(parent).parse_args(list(args))
        if not isinstance(command, TyperGroup) or not args:
            return path
        name, command, args = command.resolve_command(parent, args)
    return []


def _hand_down(root: "Context", path: "list[Context]") -> None:
    """Make what was given anywhere before the command the defaults of its options."""
    if any(option.is_eager for place in path for option in _given(place)):
        return  # help is shown, whatever else is given
    last = path[-1]
    command = " ".join(str(place.info_name) for place in path)
    known = {_flag(option): option for option in _options(last)}
    values: dict[str, Any] = {}
    for place in (root, *path):
        for option in _given(place):
            flag, value, hint = _flag(option), place.params[option.name], option.get_error_hint()
            if flag not in known:
                last.fail(f"{hint} was given before {command!r}, which has no such option.")
            if value is None:
                continue  # not a value of this option, as the command will say
            before = values.setdefault(flag, value)
            if before is not value and before != value:  # one that is no number differs from itself
                last.fail(f"{hint} is given twice, as '{values[flag]}' and as '{value}'.")
    defaults: dict[str, Any] = {known[flag].name: value for flag, value in values.items()}
    for place in reversed(path):
        defaults = {str(place.info_name): defaults}
    root.default_map = defaults


def _given(place: "Context") -> Iterator[TyperOption]:
    """The options that the command line gives at this place."""
    for option in _options(place):
        source = place.get_parameter_source(option.name)
        if source is not None and source.name == "COMMANDLINE":
            yield option


def _options(place: "Context") -> Iterator[TyperOption]:
    return (one for one in place.command.get_params(place) if isinstance(one, TyperOption))


def _flag(option: TyperOption) -> str:
    """The long spelling, by which an option is the same in two commands."""
    return max(option.opts, key=len)
