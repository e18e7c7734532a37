"""What every command shares: its settings, its console, its errors as exit codes, its lines of output."""

import contextlib
import io
import json
import logging
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import typer

from orchestrator_cli.cli.chat.in_loop import as_typed_here
from orchestrator_cli.cli.options import LimitOptions, Output, PermissionOptions
from orchestrator_cli.errors import (
    ApprovalNeeded,
    ConfigError,
    Interrupted,
    OrchError,
    UsageError,
    place_fault,
)
from orchestrator_cli.recall.guidance import Brought, Offer, find_guidance
from orchestrator_cli.settings import Settings, approvals, load_settings
from orchestrator_cli.trust import (
    SCREEN_LINES,
    TrustQuestion,
    question_lines,
    refuse,
    shown_path,
    skip_untrusted,
    too_much,
    trust_command,
)
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.envelope import Envelope
from orchestrator_cli.views.streams import wrapped, write, write_line
from orchestrator_cli.views.text import clean


def settings_of(workspace: Path | None, **flags: Any) -> Settings:
    """The settings of a command that only looks at something, without what the workspace was not allowed.

    A flag that is None was not given.
    """
    return load_settings(flags, workspace or Path.cwd(), skip_untrusted)


def run_settings(workspace: Path | None, *, asks: bool, mark: str = "", **flags: Any) -> Settings:
    """The settings of a run. What the workspace was not allowed is asked about at the terminal.

    Args:
        asks: whether a person reads what the command prints.
        mark: of the folder that the workspace has to be, if it was named before.

    Raises `ConfigError` if it is not allowed, and `FolderReplaced`.
    """
    attended = asks and on_terminal()
    settings = load_settings(flags, workspace or Path.cwd(), ask_trust if attended else refuse, mark)
    if attended:
        brought = find_guidance(settings)
        if 0 < len(brought.open) <= SCREEN_LINES:  # else the run says what it leaves out
            ask_guidance(brought, brought.open)
    return settings


def ask_guidance(brought: Brought, asked: Sequence[Offer]) -> None:
    """Ask whether models may be given what a workspace says about how to work, and keep the answer."""
    head = f"{shown_path(brought.workspace)} has words for models, which grant them nothing:"
    print_lines([head, *(f"    {one.line}" for one in asked)], sys.stderr)
    print_lines([f"Read them with: {trust_command(brought.workspace)}"], sys.stderr)
    brought.answer(asked, allow=confirmed("Give them to models, until they change?"))


def ask_trust(question: TrustQuestion, *, whole: bool = False) -> bool:
    """Show what a workspace asks for, and keep the answer if it is yes. Raises `ConfigError` if it is no."""
    question.check()
    show_wishes(question, sys.stderr, whole=whole)
    files = [] if question.is_optional else [question.file]
    file = " and ".join(dict.fromkeys(map(shown_path, (*files, *question.places.values()))))
    why = too_much(question, whole=whole)
    if why and question.is_optional and not whole:
        return False
    if why:
        more = f"allow it unasked with: {question.command} --yes" if whole else f"see: {question.command}"
        raise ConfigError(f"{why}, so it was not asked about.", f"Shorten {file}, or {more}")
    until = "the file changes" if question.uses_file else "you take it back"
    if not confirmed(f"Allow all of it, until {until}?"):
        if question.is_optional:
            return False
        change = f"Change {file}" if question.uses_file else "Work in another folder with -C"
        raise ConfigError(
            "It was not allowed, so nothing was run.",
            f"{change}, or look at it again with: {question.command}",
        )
    question.allow()
    return True


def show_wishes(question: TrustQuestion, stream: TextIO, *, whole: bool = False) -> None:
    """Print what a workspace asks for, and whether it is allowed; all of it only if `whole`."""
    where = shown_path(question.workspace)
    head = f"You have {'not ' if question.is_needed else ''}allowed what {where} asks for:"
    if question.is_changed:
        head = f"{where} has changed since you allowed it. It asks for:"
    lines = question_lines(question, whole=whole)
    if not whole and len(lines) > SCREEN_LINES:
        lines[SCREEN_LINES:] = [f"… and {len(lines) - SCREEN_LINES:,} more lines"]
    print_lines([head, *(f"  {line}" for line in lines)], stream)


def approval_kinds(text: str | None) -> tuple[str, ...] | None:
    """The kinds that `--approve` names. Raises `UsageError` that lists all of them."""
    if text is None:
        return None
    try:
        return approvals(text.split(","))
    except ValueError as exc:
        wrong, _, known = str(exc).partition(": say ")
        raise UsageError(f"--approve does not know {wrong}.", f"Say {known}.") from exc


def run_flags(limits: LimitOptions, permissions: PermissionOptions) -> dict[str, Any]:
    """The flags of a run under the names of their settings; None for one that was not given.

    Raises `UsageError` if `--approve` names an unknown kind.
    """
    given = vars(permissions) | {"allow_processes": permissions.allow_process or None}
    del given["allow_process"]
    return {
        **vars(limits),
        **given,
        "network": permissions.network or None,
        "approve": approval_kinds(permissions.approve),
        "yes": permissions.yes or None,
    }


_NOWHERE = logging.NullHandler()


@contextlib.contextmanager
def reporting(output: Output) -> Iterator[Console]:
    """Report an error as one message and end with its exit code; with `--debug`, add the traceback."""
    # Or warnings of libraries, which quote what servers send, would be written to the terminal as they are.
    logging.getLogger().addHandler(_NOWHERE)
    quiet = output.quiet or output.as_json or output.stream_json
    console = Console(quiet=quiet, verbose=output.verbose, hint=as_typed_here)
    try:
        yield console
    except OrchError as exc:
        console.close()
        if output.as_json:
            console.print_envelope(Envelope().result(exc))  # of a run that did not begin
        if output.debug:
            write(sys.stderr, clean(traceback.format_exc()))
        console.error(exc)
        raise typer.Exit(exc.exit_code) from exc
    except OSError as exc:
        if (fault := place_fault(exc)) is None:
            raise
        console.close()
        if output.as_json:
            console.print_envelope(Envelope().result(fault))
        console.error(fault)
        raise typer.Exit(fault.exit_code) from exc
    except KeyboardInterrupt:
        console.close()
        interrupted = Interrupted("Interrupted.")
        if output.as_json:
            console.print_envelope(Envelope().result(interrupted))
        console.error(interrupted)
        raise typer.Exit(interrupted.exit_code) from None
    finally:
        console.close()


def print_lines(lines: Iterable[str], stream: TextIO | None = None) -> None:
    """Print lines to standard output or another stream, made clean, and folded on a terminal."""
    sink = stream or sys.stdout
    write(sink, "".join(f"{line}\n" for line in wrapped(lines, sink)))


def print_content(text: str) -> None:
    """Print the content of files: unchanged for a program, and on a terminal without control characters.

    Surrogates of `surrogateescape` become the bytes that they stand for.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")
    write(sys.stdout, clean(text) if sys.stdout.isatty() else text)


def print_json(value: object) -> None:
    """Print a value of JSON types as one line."""
    write_line(sys.stdout, json.dumps(value, ensure_ascii=False))


def print_either(as_json: bool, value: object, lines: Iterable[str]) -> None:
    """Print a value of JSON types, or else lines that say the same to people."""
    if as_json:
        print_json(value)
    else:
        print_lines(lines)


def on_terminal() -> bool:
    """Whether a user can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirmed(question: str) -> bool:
    """Ask on standard error. The answer is no by default. Ctrl-C and the end of the input interrupt."""
    try:
        return typer.confirm(clean(question), default=False, err=True)
    except typer.Abort:
        write(sys.stderr, "\n")  # The next message starts on a new line.
        raise KeyboardInterrupt from None


def confirm(question: str, doing: str, done: str) -> None:
    """Raises `ApprovalNeeded` if no one can be asked, and `UsageError` if the answer is no."""
    if not on_terminal():
        raise ApprovalNeeded(f"{doing} must be confirmed.", "Add -y to confirm it.")
    if not confirmed(question):
        raise UsageError(f"It was not confirmed, so nothing was {done}.", "Say yes, or add -y.")
