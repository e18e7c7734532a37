"""The options that several commands share, as typer reads them.

They may be given before the command or after it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup, TyperOption

if TYPE_CHECKING:
    from typer._click import Command, Context

    from orchestrator_cli.views.console import Console

ModelName = Annotated[
    str | None,
    typer.Option("-m", "--model", help="LiteLLM's name of the model."),
]
Folder = Annotated[
    Path | None, typer.Option("-C", "--workspace", help="The folder to work in (default: here).")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print the answer and nothing else.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show every step.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error came from.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object about the run.")]
StreamJson = Annotated[bool, typer.Option("--stream-json", help="Print every event as a line of JSON.")]
MaxCost = Annotated[float | None, typer.Option(help="End the run at this many US dollars.")]
AllowUnpriced = Annotated[
    bool | None,
    typer.Option("--allow-unpriced", help="With --max-cost, use models whose price is not known as well."),
]
MaxCalls = Annotated[int | None, typer.Option(help="End the run at this many model calls.")]
MaxTokens = Annotated[int | None, typer.Option(help="End the run at this many tokens.")]
Timeout = Annotated[float | None, typer.Option(help="End the run after this many seconds.")]
MaxParallel = Annotated[int | None, typer.Option(help="Subtasks that run at once.")]
Network = Annotated[
    list[str] | None,
    typer.Option("--network", help="Domain that may be reached without a question; repeat for more."),
]
NoReuse = Annotated[bool, typer.Option("--no-reuse", help="Have it planned anew, whatever did well before.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Answer yes to everything that would be asked.")]
Approve = Annotated[
    str | None,
    typer.Option(
        "--approve",
        help="Ask about more than is asked anyway: plan, tools, writes; or all, or none.",
    ),
]
NoSandbox = Annotated[
    bool,
    typer.Option(
        "--unsafe-no-sandbox",
        help="Run code written by a model WITHOUT A SANDBOX, with all your rights. Has to be confirmed.",
    ),
]
Continue = Annotated[
    bool, typer.Option("-c", "--continue", help="Go on with the last session of this workspace.")
]
SessionName = Annotated[
    str | None, typer.Option("--session", metavar="NAME", help="Go on with this session, or begin it.")
]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="The run's id, the end of it, or `last`: this folder's newest.")
]


@dataclass(frozen=True)
class Output:
    """What goes to the screen, and how."""

    quiet: bool = False
    verbose: bool = False
    as_json: bool = False
    stream_json: bool = False
    debug: bool = False

    def console(self) -> "Console":
        from orchestrator_cli.views.console import Console

        return Console(quiet=self.quiet or self.as_json or self.stream_json, verbose=self.verbose)


class OptionsAnywhere(TyperGroup):
    """The outermost group: an option of its command may be given before the command as well.

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
            if values.setdefault(flag, value) != value:
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
