"""What the folder that a run works on may set: a rule for each setting, and what a person has allowed.

Strangers may have written what a folder holds. Its `orch.toml` may set harmless things. For any other setting
the user is shown the values and asked once, and again if the file changes. The user is also asked about a
folder that is more than a project: the home folder, or one that holds what `orch` itself trusts, such as its
data folder. A folder inside of that is refused.

The answer is in `trust/` of the data folder, under the real path of the workspace, with a hash of the file.
The file is read once: what was asked about is what is used.

MCP servers that are registered for other programs too (see `mcp_files`) are asked about in the same way, but
a run goes on without them. Instructions of a folder have answers of their own, see `recall.guidance`.

Not covered: changes to a program in the workspace that an allowed command runs. Only the files are hashed.
"""

import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, JsonValue

from orchestrator_cli.durable.files import write_atomic
from orchestrator_cli.durable.foreign import foreign_line
from orchestrator_cli.durable.places import Places, folder_id, home_folders
from orchestrator_cli.errors import ConfigError
from orchestrator_cli.trust_rules import rule_of


class Wish(NamedTuple):
    """What a workspace would set, or a reason why the folder itself is asked about."""

    name: str
    """Such as `model` or `mcp.tickets`; empty for the folder itself."""
    value: JsonValue
    yours: JsonValue = None
    """The value without the workspace's file."""


class Allowed(BaseModel):
    """What a person has allowed a workspace, as it is kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workspace: str
    sha256: str
    """Of the file as it was read; of nothing if there was none."""
    wishes: dict[str, JsonValue]


@dataclass(frozen=True)
class TrustQuestion:
    """What has to be asked about a workspace."""

    workspace: Path
    """Its real path."""
    home: Path
    """The data folder, which keeps the answer."""
    file: Path
    sha256: str
    wishes: tuple[Wish, ...]
    fault: ConfigError | None = None
    """Why the file cannot be used at all."""
    before: Allowed | None = None
    """What was allowed last, maybe for an earlier state of the file."""
    places: Mapping[str, Path] = field(default_factory=dict)
    """The files of the MCP servers that other programs' files register."""

    @property
    def is_needed(self) -> bool:
        """Whether anything is left that was not allowed for this very file."""
        if self.fault is not None:
            return True
        return bool(self.open_names)

    @property
    def allowed(self) -> Mapping[str, JsonValue]:
        """What was allowed for this very file."""
        return self.before.wishes if self.before is not None and not self.is_changed else {}

    @property
    def is_changed(self) -> bool:
        """Whether something was allowed for another state of the file."""
        return self.before is not None and self.before.sha256 != self.sha256

    @property
    def is_optional(self) -> bool:
        """Whether all that was not allowed are servers for other programs too."""
        if self.fault is not None:
            return False
        return bool(self.open_names) and self.open_names <= {f"mcp.{name}" for name in self.places}

    @property
    def open_names(self) -> frozenset[str]:
        """The names of what was not allowed."""
        wishes = self.wishes
        return frozenset(one.name for one in wishes if self.allowed.get(one.name, ...) != one.value)

    @property
    def optional_words(self) -> str:
        """What is said of servers that are left out."""
        left_out = {name: place for name, place in self.places.items() if f"mcp.{name}" in self.open_names}
        names, files = ", ".join(left_out), ", ".join(dict.fromkeys(map(shown_path, left_out.values())))
        return (
            f"MCP servers are left out that you have not allowed: {names} of {files}. "
            f"Look at them and allow them with: {self.command}"
        )

    @property
    def uses_file(self) -> bool:
        """Whether it is about the file, and not about the folder alone."""
        return self.fault is not None or any(wish.name for wish in self.wishes)

    def check(self) -> None:
        """Raise the `ConfigError` of a file that no answer makes usable."""
        if self.fault is not None:
            raise self.fault

    def allow(self) -> None:
        """Keep that a person has allowed all of it. Raises `ConfigError` if that cannot be written."""
        kept = Allowed(
            workspace=str(self.workspace),
            sha256=self.sha256,
            # Another environment may have other wishes of the same file.
            wishes={**self.allowed, **{wish.name: wish.value for wish in self.wishes}},
        )
        keep_answer(answer_place(self.home, self.workspace), kept)

    @property
    def command(self) -> str:
        """The command that shows and allows it."""
        return trust_command(self.workspace)


def trust_command(workspace: Path) -> str:
    """The command that shows and allows what a workspace brings."""
    where = str(workspace)
    return f"orch trust -C {shlex.quote(where)}" if where.isprintable() else "orch trust, in that folder"


Decide = Callable[[TrustQuestion], bool]
"""Whether a workspace may have what it was not allowed before. May raise `ConfigError` instead."""


def refuse(question: TrustQuestion) -> bool:
    """Raise `ConfigError`: there is no person to ask. What a run works without is left out instead."""
    question.check()
    if question.is_optional:
        return False
    elsewhere = {"", *(f"mcp.{name}" for name in question.places)}
    names = [_cut(shown(wish.name), 100) for wish in question.wishes if wish.name not in elsewhere]
    said = [
        f"The folder {shown_path(question.workspace)} {one.value}." for one in question.wishes if not one.name
    ]
    if names:
        said.append(f"{shown_path(question.file)} sets {', '.join(names)}.")
    if names and question.is_changed:
        said.append("It has changed since you allowed it.")
    raise ConfigError(
        f"{' '.join(said)} You have not allowed that.", f"Look at it and allow it with: {question.command}"
    )


def skip_untrusted(_: TrustQuestion) -> bool:
    """Leave out what would have to be asked about: for commands that only look at something."""
    return False


def find_wishes(settings: BaseModel, without: BaseModel) -> tuple[Wish, ...]:
    """What a file changes beyond the rules: `settings` are with it, `without` are those without it."""
    yours = dict(_entries(without))
    return tuple(
        Wish(name, value, yours.get(name))
        for name, value in _entries(settings)
        if yours.get(name, ...) != value
        and not rule_of(type(settings), name.partition(".")[0]).permits(value, yours.get(name))
    )


def _entries(settings: BaseModel) -> Iterator[tuple[str, JsonValue]]:
    """Each setting with its value; tables have an entry for each of their names."""
    for name, value in settings.model_dump(mode="json").items():
        held = getattr(settings, name)
        if isinstance(held, BaseModel):
            yield from ((f"{name}.{below}", inner) for below, inner in value.items())
        elif isinstance(held, Mapping):
            yield from ((f"{name}.{key}", _item(inner)) for key, inner in held.items())
        else:
            yield name, value


def _item(value: Any) -> JsonValue:
    if isinstance(value, BaseModel):
        dumped: JsonValue = value.model_dump(mode="json", exclude_defaults=True)
        return dumped
    return value  # type: ignore[no-any-return]  # a number


def folder_risks(workspace: Path, own: Places) -> tuple[Wish, ...]:
    """Why a folder itself is asked about; nothing for the folder of a project.

    `own`: what `orch` itself trusts. The folder is known by what it is, whatever its path.
    """
    homes = Places(home_folders())
    found = ["is your home folder"] if homes.below(folder_id(workspace)).get("") else []
    if not found and homes.within(workspace):
        found.append("contains your home folder")
    places = own.within(workspace)
    if outer := [
        one for one in places if not any(one != other and one.is_relative_to(other) for other in places)
    ]:
        names = ", ".join(map(shown_path, outer))
        found.append(f"contains {names}, where orch keeps what it trusts")
    what = "agents can read and change what is in it, such as keys, mail and settings"
    return (Wish("", f"{' and '.join(found)}: {what}"),) if found else ()


def check_place(workspace: Path, own: Places) -> None:
    """Raise `ConfigError` if a workspace, resolved, is a place that `orch` trusts, or is inside one."""
    if (place := own.holding(workspace)) is not None:
        raise ConfigError(
            f"The folder {shown_path(workspace)} is {shown_path(place)} or inside it. orch keeps what it "
            "trusts there: your settings, what you have allowed, built tools and records of runs.",
            "Work in another folder, or name another data folder in ORCH_HOME.",
        )


# --- what was allowed


def answer_place(home: Path, workspace: Path, kind: str = "") -> Path:
    """The file in the data folder with what a person has answered about a workspace."""
    return home / "trust" / f"{hashlib.sha256(os.fsencode(workspace)).hexdigest()[:32]}{kind}.json"


def keep_answer(place: Path, answer: BaseModel) -> None:
    """Write what a person has answered. Raises `ConfigError` if that cannot be done."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(place, answer.model_dump_json(indent=1), mode=0o600)
    except OSError as exc:
        raise ConfigError(
            f"What you allow cannot be kept in {place}: {exc.strerror}.",
            "Mend the permissions of the data folder, or name another one in ORCH_HOME.",
        ) from exc


def allowed_before(home: Path, workspace: Path) -> Allowed | None:
    """What was allowed a workspace, by its real path; None if that is nothing or cannot be read."""
    try:
        found = Allowed.model_validate_json(answer_place(home, workspace).read_bytes())
    except (OSError, ValueError):
        return None
    return found if found.workspace == str(workspace) else None


def forget(home: Path, workspace: Path) -> bool:
    """Take back what was allowed a workspace. Returns whether there was anything."""
    try:
        answer_place(home, workspace).unlink()
    except FileNotFoundError:
        return False
    return True


# --- how it is shown


VALUE_CHARS = 300
"""A longer value is cut in a question."""
SCREEN_LINES = 40
SCREEN_CHARS = 100
"""The lines of a screen, and the characters of each: what asks for more is not answered with y or N."""
ACTING = ("memory", "network", "mcp", "processes")
"""Settings that run code or name addresses. They are shown last, next to the answer."""
ACTING_KEYS = ("headers", "variables", "env", "url", "flow", "command", "arguments")
DESCRIBING_KEYS = ("when", "inputs", "result")


class AskedLine(NamedTuple):
    """A value that is asked for, as it is shown."""

    name: str
    text: str
    hides: bool = False
    """Whether a part of it is left out that may run code or name an address."""


def question_lines(question: TrustQuestion, *, whole: bool = False) -> list[str]:
    """What is asked for, a value a line; after a change of the file, marked with + and -.

    What runs code or names addresses comes last. Without `whole`, long values are cut.
    """
    limit = None if whole else VALUE_CHARS
    now = list(_lines({wish.name: wish.value for wish in question.wishes}, limit))
    before = list(_lines(question.before.wishes if question.before else {}, limit))
    yours = {wish.name: wish.yours for wish in question.wishes}
    lines = [f"- {line.text}" for line in before if line not in now] if question.is_changed else []
    for line in now:
        mark = "  " if question.before is None or line in before else "+ "
        value = yours.get(line.name)
        instead = f"   (instead of {_cut(shown(value), limit)})" if line.name and value else ""
        lines.append(f"{mark}{line.text}{instead}")
    return lines


def too_much(question: TrustQuestion, *, whole: bool = False) -> str:
    """Why a yes to what `question_lines` shows would be given unseen; empty if it can all be seen."""
    rows = sum(1 + len(line) // SCREEN_CHARS for line in question_lines(question, whole=whole))
    if rows > SCREEN_LINES:
        return f"That is {rows:,} lines, more than a screen"
    if whole:
        return ""
    wishes = {wish.name: wish.value for wish in question.wishes}
    hidden = sorted({line.name for line in _lines(wishes, VALUE_CHARS) if line.hides})
    return (
        f"{foreign_line(', '.join(map(shown, hidden)), 200)} is too long to be shown here" if hidden else ""
    )


def _lines(wishes: Mapping[str, JsonValue], limit: int | None) -> Iterator[AskedLine]:
    for name in sorted(wishes, key=lambda name: _rank(name.partition(".")[0], ACTING)):
        value = wishes[name]
        if not name:
            yield AskedLine(name, f"this folder {value}")
            continue
        rows: dict[str, JsonValue] = {shown(name): value}
        if isinstance(value, dict):
            # What it says about itself comes before what it does.
            keys = sorted(value, key=lambda key: (_rank(key, ACTING_KEYS), key != "when"))
            rows = {f"{shown(name)}.{key}": value[key] for key in keys if key != "entry"}
        for key, inner in rows.items():
            text = shown(inner, text=True)
            acts = name.partition(".")[0] in ACTING and key.rpartition(".")[2] not in DESCRIBING_KEYS
            hides = acts and limit is not None and len(text) > limit
            yield AskedLine(name, f"{_cut(key, limit)} = {_cut(text, limit)}", hides)


def _rank(name: str, last: Sequence[str]) -> int:
    return last.index(name) + 1 if name in last else 0


def _cut(text: str, limit: int | None) -> str:
    """The beginning and the end of a text, with a count of what is left out between them."""
    if limit is None or len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} <{len(text) - 2 * half:,} characters left out> {text[-half:]}"


def shown(value: JsonValue, *, text: bool = False) -> str:
    """A value as JSON in ASCII, so that nothing in it moves, hides or imitates anything on a terminal.

    More than three spaces in a row, which could push the rest out of sight, are shown as their number.

    A plain name is shown without quotes, unless `text` is set.
    """
    if isinstance(value, str) and not text and re.fullmatch(r"[\w.-]+", value, re.ASCII):
        return value
    found = json.dumps(value).replace("\x7f", "\\u007f")
    return re.sub(" {4,}", lambda run: f"<{len(run.group()):,} spaces>", found)


def shown_path(path: Path) -> str:
    """A path, as JSON if a terminal would not show it as it is."""
    return str(path) if str(path).isprintable() else shown(str(path), text=True)
