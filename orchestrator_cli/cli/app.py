"""The command line: the outermost group, its commands, and how the process ends.

A command is imported when it is called, so that help and version load nothing heavy: this module imports no
command, and the modules in `commands` import all that they need at their top.
"""

import contextlib
import gc
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, NoReturn

import typer
import typer.main
from typer.core import TyperCommand

from orchestrator_cli import afterwards, signals
from orchestrator_cli.cancellation import something_runs_beside
from orchestrator_cli.cli.command_list import COMMANDS, GROUPS
from orchestrator_cli.cli.options import (
    CommandGroup,
    Debug,
    Folder,
    MaxCost,
    ModelName,
    NoSandbox,
    OptionsAnywhere,
    Output,
    PermissionOptions,
    SessionOptions,
    Verbose,
    with_options,
)
from orchestrator_cli.environment import (
    remember_given,
    spare_loopback_the_proxy,
    use_whole_paths_only,
)
from orchestrator_cli.errors import Interrupted, UsageError


class LazyCommands(OptionsAnywhere):
    """The outermost group. It imports a command when one is to run, and lists those that it has not."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        self.commands = {name: TyperCommand(name, help=lazy.about) for name, lazy in COMMANDS.items()}
        self._loaded: set[str] = set()

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        self.load(*({args[0]} & COMMANDS.keys()))
        if any(map(str.isspace, args[0])):
            ctx.fail('A prompt needs a command before it: orch ask "…"')
        return super().resolve_command(ctx, args)

    def load(self, *names: str) -> None:
        """Import these commands, in place of their entries in the list."""
        for name in set(names) - self._loaded:
            module = COMMANDS[name].module
            with _reporting_interrupt():
                loaded = importlib.import_module(f"orchestrator_cli.cli.commands.{module}")
            root = typer.Typer(rich_markup_mode=None)
            root.add_typer(loaded.app, name=name if name in GROUPS else None, cls=CommandGroup)
            self.commands[name] = typer.main.get_group(root).commands[name]
            self._loaded.add(name)


@contextlib.contextmanager
def _reporting_interrupt() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("error: Interrupted.\n")
        raise typer.Exit(Interrupted.exit_code) from None


app = typer.Typer(
    name="orch",
    cls=LazyCommands,
    help="A prompt becomes a task graph that runs, builds the tools it lacks, and changes as results arrive.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ENDING_S = 5.0
"""After this long, another Ctrl-C ends a process that has not ended by itself."""


def end_process(code: int) -> NoReturn:
    """End this process, when all that was to come afterwards is done."""
    with contextlib.suppress(KeyboardInterrupt):
        afterwards.finish()
    os._exit(code)


def main(end: Callable[[int], NoReturn] = end_process) -> None:
    """The `orch` command. `end` ends the process if it cannot end by itself."""
    try:
        Path.cwd()
    except OSError as exc:
        sys.stderr.write(f"error: The current folder cannot be used: {exc.strerror}.\n")
        sys.stderr.write("  Change to another folder, and try again.\n")
        sys.exit(UsageError.exit_code)
    remember_given()
    spare_loopback_the_proxy()
    use_whole_paths_only()
    sys.excepthook = _print_uncaught
    threading.excepthook = lambda args: _print_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    interrupts = _Interrupts(end)
    signals.handle(signal.SIGINT, interrupts)
    signals.handle(signal.SIGTERM, interrupts)
    try:
        app()
    except SystemExit as exc:
        # CPython ends by SIGINT, whatever the code, if the interrupt once passed through `exec` of a string.
        # What a full disk does not take would be tried again at the end, which makes the code 120.
        if interrupts.came or something_runs_beside() or not _are_flushed():
            leave(exc.code, end)
        raise
    except KeyboardInterrupt:
        leave(Interrupted.exit_code, end)
    except Exception as exc:
        if interrupts.came:  # a library has made another error of it
            sys.stderr.write("error: Interrupted.\n")
            leave(Interrupted.exit_code, end)
        if not isinstance(exc, OSError):
            raise
        # Outside of what a command reports, such as help that is written to a full disk.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"error: {exc}\n")
        leave(1, end)
    finally:
        # The interpreter removes handlers at its end; another Ctrl-C would then change the exit code.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Collecting garbage at exit would take more than a second, for memory that the system frees anyway.
        gc.freeze()


def _are_flushed() -> bool:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return False
    return True


def _print_uncaught(
    kind: type[BaseException], exc: BaseException | None, trace: TracebackType | None
) -> None:
    """Print a traceback. Its message may quote a model or a file, which the interpreter prints as it is."""
    from orchestrator_cli.views.text import clean  # loads pydantic

    if not issubclass(kind, SystemExit):
        sys.stderr.write(clean("".join(traceback.format_exception(kind, exc, trace))))


def leave(code: object, end: Callable[[int], NoReturn] = end_process) -> NoReturn:
    """End the process at once. Everything that must last is on disk."""
    if terminal := sys.modules.get("orchestrator_cli.cli.chat.terminal_input"):
        terminal.restore()  # os._exit calls no exit functions
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    end(code if isinstance(code, int) else 1 if code else 0)


class _Interrupts:
    """The first signal ends the run. Later ones are ignored while it ends, unless that takes too long."""

    def __init__(self, end: Callable[[int], NoReturn]) -> None:
        self._first: float | None = None
        self._end = end

    @property
    def came(self) -> bool:
        return self._first is not None

    def __call__(self, *_: object) -> None:
        if self._first is None:
            self._first = time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - self._first > ENDING_S:
            leave(Interrupted.exit_code, self._end)


def _print_version(context: typer.Context, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        from orchestrator_cli.cli.version import version_line

        typer.echo(version_line())
        raise typer.Exit


@app.callback(invoke_without_command=True)
@with_options
def start(
    context: typer.Context,
    *,
    model: ModelName = None,
    workspace: Folder = None,
    conversation: SessionOptions,
    max_cost: MaxCost = None,
    permissions: PermissionOptions,
    verbose: Verbose = False,
    unsafe_no_sandbox: NoSandbox = False,
    debug: Debug = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and the commit.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Without a command, orch is interactive."""
    if context.invoked_subcommand is None:
        with _reporting_interrupt():
            from orchestrator_cli.cli.chat.repl_session import start_repl
        signals.handle(signal.SIGINT, signal.default_int_handler)  # Ctrl-C ends a run, not the loop
        start_repl(
            Output(verbose=verbose, debug=debug),
            conversation,
            permissions,
            workspace=workspace,
            model=model,
            max_cost=max_cost,
            unsafe_no_sandbox=unsafe_no_sandbox,
            command=_from_the_loop,
        )


def _from_the_loop(arguments: list[str]) -> int:
    """Run a command from the interactive loop. Returns its exit code."""
    try:
        app(arguments)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 1
    return 0


if __name__ == "__main__":
    main()
