"""The user's own `orch.toml`, changed with its comments and its order kept. The file of a workspace never is.

A change is written in one step, and only if the file then holds exactly what it held and the change. Not
covered: an editor that saves an older copy at the same moment.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator_cli.config_file import config_values, read_config
from orchestrator_cli.data_folder import check_owned
from orchestrator_cli.durable.encodings import UTF8, marked_encoding
from orchestrator_cli.durable.files import make_folders, write_atomic
from orchestrator_cli.durable.locks import LockTimeout, wait_for_lock
from orchestrator_cli.errors import ConfigError, UsageError, storage_faults

WAIT_S = 10.0
Table = Mapping[str, Any]


def own_processes(place: Path) -> dict[str, Any]:
    """The tables `[processes.NAME]` of a file as they are there. Raises `ConfigError`."""
    found = (read_config(place)[1] if place.is_file() else {}).get("processes", {})
    return dict(found) if isinstance(found, dict) else {}


def write_processes(place: Path, new: Mapping[str, Table], changed: Mapping[str, Table]) -> None:
    """Add tables, and set fields of tables that are there.

    Raises `ConfigError` if the file cannot be changed, and if it has one of the new tables by now.
    """
    with _changing(place) as change:
        if there := sorted(new.keys() & own_processes(place).keys()):
            raise ConfigError(
                f"{place} has a table [processes.{there[0]}] by now.", "Look at it, and try again."
            )
        change(new, changed, ())


def remove_process(place: Path, name: str) -> None:
    """Remove a table. Raises `UsageError` if there is none of that name, and `ConfigError`."""
    with _changing(place) as change:
        if name not in (there := own_processes(place)):
            known = ", ".join(sorted(there)) or "none"
            raise UsageError(f"{place} has no process {name}.", f"It has: {known}")
        change({}, {}, (name,))


@contextlib.contextmanager
def _changing(place: Path) -> Iterator[Any]:
    """The function that changes the file, while no other process of ours does."""
    check_owned(place)
    with storage_faults():
        make_folders(place.parent, 0o700)
        folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            wait_for_lock(folder, wait_s=WAIT_S)
            yield lambda *change: _change(place, *change)
        except LockTimeout as exc:
            raise ConfigError(f"Another process changes {place}.", "Try again.") from exc
        finally:
            os.close(folder)


def _change(place: Path, new: Mapping[str, Table], changed: Mapping[str, Table], gone: Iterable[str]) -> None:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    content, values = read_config(place) if place.is_file() else (b"", {})
    encoding = marked_encoding(content) or UTF8
    text = encoding.decode(content)
    there = values.get("processes", {})
    wanted = {name: row for name, row in there.items() if name not in gone} | dict(new)
    wanted |= {name: {**there[name], **row} for name, row in changed.items()}
    try:
        document: Any = tomlkit.parse(text)
        for name in gone:
            del document["processes"][name]
        for name, row in changed.items():
            for key, value in row.items():
                document["processes"][name][key] = _item(key, value)
        text = tomlkit.dumps(document)
        if new:
            text = f"{text.rstrip()}\n\n" if text.strip() else ""
            text += tomlkit.dumps(_tables(new))
        made = config_values(text)
    except (TOMLKitError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise _by_hand(place, new, changed) from exc
    before = {key: value for key, value in values.items() if key != "processes"}
    if made != before | ({"processes": wanted} if wanted or made.get("processes") == {} else {}):
        raise _by_hand(place, new, changed)
    # A link, as dotfiles often are, stays one.
    target = place.resolve()
    mode = stat.S_IMODE(target.stat().st_mode) if target.is_file() else 0o600
    write_atomic(target, encoding.encode(text), mode=mode)
    os.chmod(target, mode)  # noqa: PTH101 - the umask took a part of it


def _by_hand(place: Path, new: Mapping[str, Table], changed: Mapping[str, Table]) -> ConfigError:
    names = ", ".join((*new, *changed)) or "it"
    return ConfigError(
        f"{place} cannot be changed without changing more of it.",
        f"Write its processes as tables [processes.NAME], or change {names} by hand.",
    )


def _tables(rows: Mapping[str, Table]) -> Any:
    import tomlkit

    document, processes = tomlkit.document(), tomlkit.table(is_super_table=True)
    for name, row in rows.items():
        table = tomlkit.table()
        for key, value in row.items():
            table.add(key, _item(key, value))
        processes.add(name, table)
    document.add("processes", processes)
    return document


def _item(key: str, value: Any) -> Any:
    """A value as it is written: the properties of a schema a line each, everything else on one line."""
    import tomlkit

    if key != "inputs":
        return _inline(value)
    table = tomlkit.table()
    for name, inner in value.items():
        if name == "properties" and inner:
            below = tomlkit.table()
            for one, schema in inner.items():
                below.add(one, _inline(schema))
            below.add(tomlkit.nl())
            table.add(name, below)
        else:
            table.add(name, _inline(inner))
    if not value.get("properties"):
        table.add(tomlkit.nl())
    return table


def _inline(value: Any) -> Any:
    import tomlkit

    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        for name, inner in value.items():
            table.add(name, _inline(inner))
        return table
    return tomlkit.item(list(value) if isinstance(value, tuple) else value)
