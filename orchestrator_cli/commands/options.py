"""The options that several commands share, as typer reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
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

    def console(self) -> Console:
        from orchestrator_cli.views.console import Console

        return Console(quiet=self.quiet or self.as_json or self.stream_json, verbose=self.verbose)
