"""`orch.toml` as values. The workspace's may be a stranger's, so reading it is cheap whatever it holds."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator_cli.durable.encodings import UTF8, marked_encoding
from orchestrator_cli.durable.files import read_regular
from orchestrator_cli.errors import ConfigError

MAX_BYTES = 16 * 1024
"""The largest `orch.toml` of a workspace: a person has to be able to read it."""
MAX_DEPTH = 16
"""The most parts of a dotted key, and the most brackets in one another. The parser's memory grows with the
square of the first, and its stack with the second."""

_TOKEN = re.compile(
    r"""
      \#[^\n]*                              # a comment
    | \"{3}(?:\\.|[^\\])*?\"{3,5}           # strings, of which a long one may end in quotes of its own
    | '{3}.*?'{3,5}
    | "(?:\\.|[^"\\\n])*"
    | '[^'\n]*'
    | (?P<sign>[\[\]{}.=,\n])
    """,
    re.DOTALL | re.VERBOSE,
)


def read_config(path: Path, limit: int | None = None) -> tuple[bytes, dict[str, Any]]:
    """The content of a file, and its values. Raises `ConfigError`, also for more than `limit` bytes."""
    try:
        content = read_regular(path, None if limit is None else limit + 1)
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc}", "Correct the file, or move it away.") from exc
    if limit is not None and limit < len(content):
        raise ConfigError(
            f"{path} is larger than {limit // 1024} KiB, too large to be looked at by a person.",
            "Make it smaller, or set what you need in your own file.",
        )
    try:
        return content, config_values((marked_encoding(content) or UTF8).decode(content))
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}", "Correct the file, or move it away.") from exc


def config_values(text: str) -> dict[str, Any]:
    """The values of a file's text. Raises `ValueError` and `RecursionError`."""
    _check_depth(text)
    return tomllib.loads(text)


def _check_depth(text: str) -> None:
    """Raise `ValueError` if a key has too many parts, or if values are nested too deeply."""
    dots = brackets = 0
    for match in _TOKEN.finditer(text):
        match match["sign"]:
            case None:
                continue
            case ".":
                dots += 1
            case "[" | "{":
                dots, brackets = 0, brackets + 1
            case "]" | "}":
                dots, brackets = 0, brackets - 1
            case _:
                dots = 0
        if dots >= MAX_DEPTH or brackets > MAX_DEPTH:
            line = text.count("\n", 0, match.start()) + 1
            raise ValueError(f"line {line} nests more than {MAX_DEPTH} levels deep")


def with_whole_paths(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The values of a folder's file, with whole paths in the commands of MCP servers.

    Such a command does not start in the folder. These parts of it are paths of the folder: the program if it
    has a `/`, what begins with `./` or `../`, the folders `.` and `..`, and the name of a file that is there.
    """
    servers = values.get("mcp")
    if not isinstance(servers, dict):
        return dict(values)
    return {**values, "mcp": {name: _with_whole_command(row, folder) for name, row in servers.items()}}


def _with_whole_command(server: Any, folder: Path) -> Any:
    command = server.get("command") if isinstance(server, dict) else None
    if not isinstance(command, list) or not all(isinstance(part, str) for part in command):
        return server  # which the settings refuse, or which has a url
    whole = [
        str(folder / part) if _is_of(folder, part, is_program=number == 0) else part
        for number, part in enumerate(command)
    ]
    return {**server, "command": whole}


def _is_of(folder: Path, part: str, *, is_program: bool) -> bool:
    if part.startswith("${"):
        return False  # the workspace's path, or a variable of the user's
    if re.match(r"\.{1,2}(/|$)", part) or (is_program and "/" in part):
        return True
    try:
        return not is_program and (folder / part).is_file()
    except (OSError, ValueError):  # too long for a path, or with a zero byte
        return False
