"""What every command shares: its settings, its console, its errors as exit codes, its lines of output."""

import contextlib
import json
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from orchestrator_cli.cli.options import LimitOptions, Output, PermissionOptions
from orchestrator_cli.errors import Interrupted, OrchError, UsageError
from orchestrator_cli.settings import Settings, approvals, load_settings
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.streams import write, write_line
from orchestrator_cli.views.text import clean


def settings_of(workspace: Path | None, **flags: Any) -> Settings:
    """The settings of a command. A flag that is None was not given."""
    return load_settings(flags, workspace or Path.cwd())


def approval_kinds(text: str | None) -> tuple[str, ...] | None:
    """The kinds that `--approve` names. Raises `UsageError` that lists all of them."""
    if text is None:
        return None
    try:
        return approvals(text.split(","))
    except ValueError as exc:
        raise UsageError(f"--approve does not know {exc}.".replace(": say ", ".\nSay "), "") from exc


def run_flags(limits: LimitOptions, permissions: PermissionOptions) -> dict[str, Any]:
    """The flags of a run under the names of their settings; None for one that was not given.

    Raises `UsageError` if `--approve` names an unknown kind.
    """
    return {
        **vars(limits),
        **vars(permissions),
        "network": permissions.network or None,
        "approve": approval_kinds(permissions.approve),
        "yes": permissions.yes or None,
    }


@contextlib.contextmanager
def reporting(output: Output) -> Iterator[Console]:
    """Report an error as one message and end with its exit code; with `--debug`, add the traceback."""
    console = Console(quiet=output.quiet or output.as_json or output.stream_json, verbose=output.verbose)
    try:
        yield console
    except OrchError as exc:
        console.close()
        if output.debug:
            write(sys.stderr, clean(traceback.format_exc()))
        console.error(exc)
        raise typer.Exit(exc.exit_code) from exc
    except KeyboardInterrupt:
        console.close()
        interrupted = Interrupted("Interrupted.")
        console.error(interrupted)
        raise typer.Exit(interrupted.exit_code) from None
    finally:
        console.close()


def print_lines(lines: list[str]) -> None:
    """Print lines to standard output, without control characters."""
    write(sys.stdout, "".join(f"{clean(line)}\n" for line in lines))


def print_content(text: str) -> None:
    """Print the content of files: unchanged for a program, and on a terminal without control characters."""
    write(sys.stdout, clean(text) if sys.stdout.isatty() else text)


def print_json(value: object) -> None:
    """Print a value of JSON types as one line."""
    write_line(sys.stdout, json.dumps(value, ensure_ascii=False))


def confirmed(question: str) -> bool:
    """Ask on standard error. The answer is no by default. Ctrl-C and the end of the input interrupt."""
    try:
        return typer.confirm(clean(question), default=False, err=True)
    except typer.Abort:
        write(sys.stderr, "\n")  # The next message starts on a new line.
        raise KeyboardInterrupt from None
