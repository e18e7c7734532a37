"""The user's own `orch.toml`, changed with its comments and its order kept. The file of a workspace never is.

A change is written in one step, and only if the file then holds exactly what it held and the change. Not
covered: an editor that saves an older copy at the same moment.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator_cli.config_file import config_values, read_config
from orchestrator_cli.data_folder import check_owned
from orchestrator_cli.durable.encodings import UTF8, marked_encoding
from orchestrator_cli.durable.files import make_folders, read_regular, write_atomic
from orchestrator_cli.durable.locks import LockTimeout, wait_for_lock
from orchestrator_cli.errors import ConfigError, UsageError, storage_faults
from orchestrator_cli.trust import shown_path

WAIT_S = 10.0
Table = Mapping[str, Any]
Check = Callable[[Table], object]
"""Raises `ConfigError` for values that the file may not hold."""
Edit = Callable[[Any], str | None]
"""Changes a document of tomlkit in place, or returns its new text."""


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


def own_values(place: Path) -> dict[str, Any]:
    """All that the file holds; empty if it is not there. Raises `ConfigError`."""
    return read_config(place)[1] if place.is_file() else {}


def own_content(place: Path) -> tuple[bytes, str]:
    """The file as it is, and as a text, also if it is wrong; empty if it is not there."""
    check_owned(place)
    try:
        content = read_regular(place)
        return content, (marked_encoding(content) or UTF8).decode(content)
    except FileNotFoundError:
        return b"", ""
    except (OSError, ValueError) as exc:
        raise ConfigError(
            f"{shown_path(place)} cannot be read: {exc}", "Mend the file, or move it away."
        ) from exc


def with_value(values: Table, name: Sequence[str], value: Any) -> dict[str, Any]:
    """Values with another one in one place, named by the keys that lead there.

    Raises `UsageError` if something else than a table is above it.
    """
    key, *below = name
    if not below:
        return {**values, key: value}
    here = values.get(key, {})
    if not isinstance(here, Mapping):
        raise UsageError(f"{key} is not a table in your file.", "Change it with: orch config edit")
    return {**values, key: with_value(here, below, value)}


def set_value(place: Path, name: Sequence[str], value: Any, check: Check) -> None:
    """Set one value. Raises `ConfigError` if the file cannot be changed, and what `check` raises."""
    with _changing(place):
        _rewrite(
            place,
            lambda values: with_value(values, name, value),
            [partial(way, name=name, value=value) for way in (_replaced, _inserted, _appended, _assigned)],
            _no_place(place, name),
            check,
        )


def unset_value(place: Path, name: Sequence[str], check: Check) -> None:
    """Remove one value or table. Raises as `set_value` does, and `UsageError` if it is not there."""
    *above, last = name

    def wanted(values: Table, keys: Sequence[str] = name) -> Table:
        key, *below = keys
        if not isinstance(values, Mapping) or key not in values:
            raise UsageError(f"{shown_path(place)} does not set it.", "See: orch config list")
        others = {one: inner for one, inner in values.items() if one != key}
        return {**values, key: wanted(values[key], below)} if below else others

    def removed(document: Any) -> str | None:
        del _below(document, above)[last]
        return None

    with _changing(place):
        _rewrite(place, wanted, [removed], _no_place(place, name), check)


def replace_text(place: Path, before: bytes, text: str, check: Check) -> None:
    """Put a text in place of all that the file held. Raises `ConfigError`, and what `check` raises."""
    with _changing(place):
        if own_content(place)[0] != before:
            raise ConfigError(f"{shown_path(place)} was changed by another program meanwhile.", "Try again.")
        try:
            values = config_values(text)
            content = (marked_encoding(before) or UTF8).encode(text)
        except (ValueError, RecursionError) as exc:
            raise ConfigError(f"It cannot be read: {exc}", "Correct it.") from exc
        check(values)
        _write(place, content)


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
    def wanted(values: Table) -> Table:
        there = values.get("processes", {})
        rows = {name: row for name, row in there.items() if name not in gone} | dict(new)
        rows |= {name: {**there[name], **row} for name, row in changed.items()}
        return {**values, "processes": rows}

    def edited(document: Any) -> str | None:
        for name in gone:
            del document["processes"][name]
        for name, row in changed.items():
            for key, value in row.items():
                document["processes"][name][key] = _item(key, value)
        return _with_more(document, _tables(new)) if new else None

    _rewrite(place, wanted, [edited], _by_hand(place, new, changed))


def _rewrite(
    place: Path,
    wanted: Callable[[Table], Table],
    ways: Iterable[Edit],
    refusal: ConfigError,
    check: Check = lambda _: None,
) -> None:
    """Rewrite a file, in the first way by which it then holds what is wanted. Raises `refusal` if none."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    content, values = read_config(place) if place.is_file() else (b"", {})
    encoding = marked_encoding(content) or UTF8
    made = wanted(values)
    for way in ways:
        with contextlib.suppress(TOMLKitError, ValueError, LookupError, TypeError, RecursionError):
            text = encoding.decode(content)
            document = tomlkit.parse(text if text.endswith("\n") or not text else f"{text}\n")
            text = way(document) or tomlkit.dumps(document)
            if _filled(config_values(text)) == _filled(made):
                break
    else:
        raise refusal
    check(made)
    _write(place, encoding.encode(text))


# --- ways to set a value in a document, which keep its comments and its order


def _replaced(document: Any, name: Sequence[str], value: Any) -> str | None:
    """Where it is already; the keys of a table one by one."""
    *above, last = name
    here = _below(document, above)
    old = here[last]
    if not isinstance(value, Mapping) or not isinstance(old, MutableMapping):
        here[last] = _inline(value)
        return None
    for key in [key for key in old if key not in value]:
        del old[key]
    for key, inner in value.items():
        if old.get(key) != inner:
            old[key] = _inline(inner)
    return None


def _inserted(document: Any, name: Sequence[str], value: Any) -> str | None:
    """After the last value of its table: what follows that are often words about the next table."""
    import tomlkit
    from tomlkit.items import AoT, Comment, Table, Whitespace

    *above, last = name
    if isinstance(value, Mapping):
        raise TypeError("a table is appended")
    here = _below(document, above)
    body = here.body if here is document else here.value.body
    values = [
        n for n, (key, item) in enumerate(body) if key is not None and not isinstance(item, Table | AoT)
    ]
    at = values[-1] + 1 if values else 0
    if here is document and not values:
        # After the words about the file itself, which end with an empty line.
        head = next((n for n, (_, item) in enumerate(body) if not isinstance(item, Comment)), len(body))
        at = head + 1 if 0 < head < len(body) and isinstance(body[head][1], Whitespace) else 0
        if at < len(body):
            body.insert(at, (None, tomlkit.nl()))
    body.insert(at, (tomlkit.key(last), tomlkit.item(_inline(value))))
    return None


def _appended(document: Any, name: Sequence[str], value: Any) -> str | None:
    """In a table of its own at the end."""
    import tomlkit

    *above, last = name if not isinstance(value, Mapping) else (*name, "")
    if not above:
        raise TypeError("it is in no table")
    table = tomlkit.table()
    for key, inner in value.items() if isinstance(value, Mapping) else [(last, value)]:
        table.add(key, _inline(inner))
    for key in reversed(above[1:]):
        outer = tomlkit.table(is_super_table=True)
        outer.add(key, table)
        table = outer
    made = tomlkit.document()
    made.add(above[0], table)
    return _with_more(document, made)


def _assigned(document: Any, name: Sequence[str], value: Any) -> str | None:
    """As the library does it, for tables within a line and for names with dots."""
    here = document
    for n, key in enumerate(name[:-1]):
        if key not in here:
            made = value
            for inner in reversed(name[n + 1 :]):
                made = {inner: made}
            here[key] = _inline(made)
            return None
        here = here[key]
    here[name[-1]] = _inline(value)
    return None


def _below(document: Any, above: Sequence[str]) -> Any:
    here = document
    for key in above:
        here = here[key]
    return here


def _with_more(document: Any, tables: Any) -> str:
    """The text of a document with tables after what it has."""
    import tomlkit

    text = tomlkit.dumps(document)
    return (f"{text.rstrip()}\n\n" if text.strip() else "") + tomlkit.dumps(tables)


def _filled(values: Table) -> Table:
    """Values without tables that are empty at the top, which say nothing."""
    return {name: value for name, value in values.items() if value != {}}


def _write(place: Path, content: bytes) -> None:
    # A link, as dotfiles often are, stays one.
    write_atomic(place.resolve(), content, mode=0o600, keep_mode=True)


def _no_place(place: Path, name: Sequence[str]) -> ConfigError:
    return ConfigError(
        f"{shown_path(place)} is written in a way in which {'.'.join(name)} cannot be changed alone.",
        "Change it by hand with: orch config edit",
    )


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
