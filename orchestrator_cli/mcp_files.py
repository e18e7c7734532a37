"""MCP servers as other programs register them: files with `mcpServers`, read as `[mcp.NAME]` is.

The workspace may have `.mcp.json`, `.cursor/mcp.json` and `.vscode/mcp.json` (with `servers`); the user, an
`mcp.json` beside their own `orch.toml`. Of entries with the same name the first counts. What cannot be used,
an entry or a file, is named with the reason, and the rest works.

Not covered: `cwd` and `envFile`, since programs start in an empty folder and get only what is named;
`${input:…}`, for which another program asks; comments in JSON; the files of other programs in your home.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator_cli.config_file import MAX_BYTES
from orchestrator_cli.durable.encodings import is_utf8
from orchestrator_cli.durable.files import read_regular
from orchestrator_cli.durable.foreign import foreign_line
from orchestrator_cli.durable.json_text import refuse_constant
from orchestrator_cli.durable.names import identifiers
from orchestrator_cli.mcp_settings import NAME, NAME_CHARS, McpServer
from orchestrator_cli.trust import Wish

WORKSPACE_FILES = (".mcp.json", ".cursor/mcp.json", ".vscode/mcp.json")
USER_FILES = ("mcp.json",)
_TYPES = {"http": "http", "streamable-http": "http", "streamableHttp": "http", "sse": "sse", "stdio": None}
_NOT_USED = ("cwd", "envFile")


@dataclass
class McpFiles:
    """What the files of a folder register."""

    servers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """As `mcp` of the settings has them."""
    places: dict[str, Path] = field(default_factory=dict)
    """The file of each server."""
    faults: list[str] = field(default_factory=list)
    """What cannot be used, a line each."""

    marks: dict[str, dict[str, str]] = field(default_factory=dict)
    """For each server its file, and a hash of its entry, which tells of changes that are not shown."""

    def marked(self, wish: Wish) -> Wish:
        """A wish for one of the servers, with its mark."""
        mark = self.marks.get(wish.name.removeprefix("mcp.")) if wish.name.startswith("mcp.") else None
        return wish._replace(value={**wish.value, **mark}) if mark and isinstance(wish.value, dict) else wish


def read_mcp_files(folder: Path, names: Collection[str], taken: Collection[str] = ()) -> McpFiles:
    """The servers that files of a folder register.

    Args:
        names: the files.
        taken: servers that are registered elsewhere, which count.
    """
    found = McpFiles()
    for name in names:
        place = folder / name
        try:
            content = read_regular(place, MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            found.faults.append(f"{name} cannot be read: {exc.strerror}")
            continue
        try:
            entries = _entries(content)
        except ValueError as exc:
            found.faults.append(f"{name} cannot be used: {foreign_line(exc, 200)}")
            continue
        _add(found, place, name, entries, taken)
    return found


def _entries(content: bytes) -> Mapping[str, Any]:
    """Raises `ValueError`."""
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES // 1024} KiB")
    try:
        rows = json.loads(content.decode("utf-8-sig"), parse_constant=refuse_constant)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc
    listed = rows.get("mcpServers", rows.get("servers", {})) if isinstance(rows, dict) else None
    if not isinstance(listed, dict):
        raise ValueError("it has no object mcpServers")
    return listed


def _add(found: McpFiles, place: Path, file: str, entries: Mapping[str, Any], taken: Collection[str]) -> None:
    names = identifiers(entries, word="server", most=NAME_CHARS, as_is=NAME, lower=True)
    for own, entry in entries.items():
        name = names[own]
        if name in taken or name in found.servers:
            continue
        try:
            row = _server(own, entry, file)
            if row is not None:
                McpServer.model_validate(row)
                found.servers[name], found.places[name] = row, place
                whole = json.dumps([own, entry], sort_keys=True).encode()
                found.marks[name] = {"file": file, "entry": hashlib.sha256(whole).hexdigest()}
        except ValidationError as exc:
            error = exc.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, error["loc"]))
            reason = f"{where}: {error['msg']}" if where else error["msg"].removeprefix("Value error, ")
            found.faults.append(f"{foreign_line(own, 60)} of {file}: {foreign_line(reason, 200)}")
        except ValueError as exc:
            found.faults.append(f"{foreign_line(own, 60)} of {file}: {foreign_line(exc, 200)}")


def _server(own: str, entry: Any, file: str) -> dict[str, Any] | None:
    """An entry as a table of `orch.toml`; None if it is switched off. Raises `ValueError`."""
    if not isinstance(entry, dict):
        raise ValueError("it is not an object")
    if not is_utf8(json.dumps([own, entry], ensure_ascii=False)):
        raise ValueError("it has half of a surrogate pair")
    if entry.get("disabled") is True or entry.get("enabled") is False:
        return None
    if unused := [key for key in _NOT_USED if entry.get(key)]:
        raise ValueError(f"{unused[0]} is not used: name what it needs in command, args and env")
    said = entry.get("description")
    about = said if isinstance(said, str) and said else f"{foreign_line(own, 60)} of {file}"
    row: dict[str, Any] = {"when": foreign_line(about, 300)}
    url = next((entry[key] for key in ("url", "serverUrl", "httpUrl") if entry.get(key)), None)
    kind = entry.get("type", entry.get("transport"))
    if kind is not None and (not isinstance(kind, str) or kind not in _TYPES):
        raise ValueError(f"its type {foreign_line(kind, 60)} is not known: stdio, http or sse")
    if url is not None and kind != "stdio":
        is_sse = kind == "sse" or (kind is None and str(url).rstrip("/").endswith("/sse"))
        row |= {"url": url, "type": "sse" if is_sse else "http"}
        row |= {"headers": dict(_texts(entry, "headers"))}
    elif entry.get("command"):
        args = entry.get("args", [])
        if not isinstance(args, list):
            raise ValueError("its args are not a list")
        row |= {"command": [entry["command"], *args], "variables": dict(_texts(entry, "env"))}
    else:
        raise ValueError("it has neither a command nor a url")
    tools = entry.get("tools")
    if isinstance(tools, list) and "*" not in tools:
        row["tools"] = tools
    return row | {"expand": True}


def _texts(entry: Mapping[str, Any], key: str) -> Iterator[tuple[str, str]]:
    found = entry.get(key) or {}
    if not isinstance(found, dict):
        raise ValueError(f"its {key} is not an object")
    for name, value in found.items():
        if value is not None:
            yield name, value if isinstance(value, str) else json.dumps(value)
