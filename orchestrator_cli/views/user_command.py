"""A program that the user's own settings name, started for something that happened in a run."""

from collections.abc import Sequence
from pathlib import Path

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.environment import HOOKED
from orchestrator_cli.errors import RecoverableError
from orchestrator_cli.subprocesses.command import run_command
from orchestrator_cli.views.text import one_line

SAID_CHARS = 200


class CommandFailed(RecoverableError):
    """Why it did not work, in words for a person."""


def start_command(
    argv: Sequence[str], given: str, limit_s: float, within: Cancellation | None = None
) -> None:
    """Run it to its end, with this text on its standard input. Raises `CommandFailed`.

    It is ended after `limit_s` seconds, or with the reason of `within`. An `orch` that it starts starts no
    hooks.
    """
    took_long = CommandFailed(f"it took longer than {limit_s:g} s")
    with (within or Cancellation()).limited(limit_s, lambda: took_long) as cancellation:
        # In no folder whose files a program could take for its own.
        try:
            env = {HOOKED: "1"}
            ended = run_command(argv, cwd=Path("/"), given=given, env=env, cancellation=cancellation)
        except OSError as exc:
            raise CommandFailed(f"it could not be started: {exc.strerror}") from exc
    if ended.code:
        said = one_line(ended.err, SAID_CHARS)
        raise CommandFailed(f"it ended with exit code {ended.code}{': ' if said else ''}{said}")
