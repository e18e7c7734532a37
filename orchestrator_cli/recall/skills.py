"""Skills: folders with a `SKILL.md` that says how to do one kind of work, and files that help with it.

They are offered by name and description, and read when an agent asks for one. Those of the user are in
`skills/` of the data folder, `~/.agents/skills` and `~/.claude/skills`; those of a project, which strangers
may have written, in `.agents/skills` and `.claude/skills` of the folders from the repository's root to the
workspace. Of two with one name, the first in this order counts.

What is read is copied into a folder of the run, which code in a sandbox can read. Of a project's skill only
what a person has allowed is copied. `allowed-tools` and other keys of a `SKILL.md` have no effect.

Not covered: a script that needs what the sandbox does not have, such as a network.
"""

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from orchestrator_cli.data_folder import check_owned
from orchestrator_cli.durable.foreign import foreign_line
from orchestrator_cli.durable.places import home_folders, repository_around
from orchestrator_cli.durable.text import truncate
from orchestrator_cli.durable.yaml_text import read_front_matter
from orchestrator_cli.errors import ConfigError
from orchestrator_cli.recall.instructions import (
    check_name,
    folders_down,
    reason,
    resolved_within,
    text_of,
)
from orchestrator_cli.tools.file_rules import hiding_rule
from orchestrator_cli.tools.files import file_tools, read_beginning
from orchestrator_cli.values import SkillCard
from toolsmith.sandbox.removal import remove

OWN = (".agents/skills", ".claude/skills")
"""In the home folder and in a project."""
TEXT_BYTES = 64 << 10
"""The longest `SKILL.md`."""
MAX_FILES, MAX_BYTES, MAX_DEPTH = 200, 8 << 20, 8
"""Of one skill."""
ALL_BYTES = 64 << 20
"""Of all skills of a project: they are read before each run."""
LOOKED_AT = 500
"""Folders of one place that are looked at."""
DESCRIPTION_CHARS, LIST_CHARS = 500, 12_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Skill(NamedTuple):
    """A skill as it was found."""

    name: str
    description: str
    text: str
    """What its `SKILL.md` says after the front matter."""
    folder: Path
    """Resolved."""
    place: str
    """The folder, for people."""
    files: Mapping[str, str] | None = None
    """The hashes of its files; None if it is the user's own, who need not be asked."""

    @property
    def sha256(self) -> str:
        """Of all its files."""
        rows = "".join(f"{path}\0{sha256}\n" for path, sha256 in sorted((self.files or {}).items()))
        return hashlib.sha256(rows.encode("utf-8", "surrogateescape")).hexdigest()


class FoundSkills(NamedTuple):
    skills: tuple[Skill, ...]
    faults: tuple[str, ...]
    """Why others are not used."""


@dataclass(frozen=True)
class _Place:
    """A folder of skills."""

    folder: Path
    shown: str
    within: Path | None
    """Where links may lead; None for the user's own, whose links may lead anywhere."""


@dataclass
class _Room:
    """How many bytes of a project's skills may still be read."""

    left: int = ALL_BYTES


def find_skills(root: Path, home: Path) -> FoundSkills:
    """Those of a workspace, resolved, and of its user. `home`: the data folder."""
    found: dict[str, Skill] = {}
    faults: list[str] = []
    seen: set[Path] = set()
    room = _Room()
    for place in (*_places_of_user(home), *_places_of_project(root)):
        for folder, shown in _folders(place, faults):
            try:
                real = folder.resolve() if place.within is None else resolved_within(place.within, folder)
                if real in seen or not os.path.lexists(real / "SKILL.md"):
                    continue
                seen.add(real)
                check_name(shown)
                skill = _read(real, shown, None if place.within is None else room)
                first = found.setdefault(skill.name, skill)
                if first.text != skill.text:
                    raise ValueError(f"another skill of the name {skill.name} is used, {first.place}")
            except (OSError, ValueError, RuntimeError, yaml.YAMLError) as exc:
                why = reason(exc) if isinstance(exc, OSError | ValueError) else " ".join(str(exc).split())
                faults.append(f"{shown}: {why}")
    return FoundSkills(tuple(found.values()), tuple(faults))


def skill_cards(skills: Sequence[Skill]) -> tuple[SkillCard, ...]:
    """What models are shown, with descriptions cut to a length."""
    left, cards = LIST_CHARS, []
    for skill in skills:
        text = truncate(" ".join(skill.description.split()), min(DESCRIPTION_CHARS, max(left, 1)))
        left -= len(text)
        cards.append(SkillCard(name=skill.name, description=text))
    return tuple(cards)


# --- where they are


def _places_of_user(home: Path) -> Iterator[_Place]:
    yield _Place(home / "skills", str(home / "skills"), None)
    for user in home_folders()[:1]:
        yield from (_Place(user / name, f"~/{name}", None) for name in OWN)


def _places_of_project(root: Path) -> Iterator[_Place]:
    base = repository_around(root) or root
    for folder, path in reversed(list(folders_down(base, root))):
        yield from (_Place(folder / name, f"{path}{name}", base) for name in OWN)


def _folders(place: _Place, faults: list[str]) -> Iterator[tuple[Path, str]]:
    """The folders in a place, each with its name for people."""
    if not place.folder.is_dir():
        return
    try:
        if place.within is None:
            check_owned(place.folder)
        else:
            resolved_within(place.within, place.folder)
        with os.scandir(place.folder) as entries:
            names = sorted(entry.name for entry in islice(entries, LOOKED_AT) if entry.is_dir())
    except (OSError, ValueError) as exc:
        faults.append(f"{place.shown}: {reason(exc)}")
        return
    except ConfigError as exc:
        faults.append(f"{place.shown}: {exc.message}")
        return
    yield from ((place.folder / name, f"{place.shown}/{name}") for name in names)


# --- how they are read


def _read(folder: Path, shown: str, room: _Room | None) -> Skill:
    """`room`: None for the user's own, whose files are read when they are needed."""
    is_own = room is None
    data = _content(folder, "SKILL.md", TEXT_BYTES + 1, follow=is_own)
    if len(data) > TEXT_BYTES:
        raise ValueError(f"its SKILL.md is larger than {TEXT_BYTES >> 10} KiB")
    values, text = read_front_matter(text_of(data))
    name, description = values.get("name"), values.get("description")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError("its name is missing, or is not made of letters, digits, - and _")
    if not isinstance(description, str) or not description.strip():
        raise ValueError("its description is missing")
    files = None
    if room is not None:
        found = _contents(folder, room, follow=False)
        files = {path: hashlib.sha256(content).hexdigest() for path, content in found}
        files["SKILL.md"] = hashlib.sha256(data).hexdigest()
    return Skill(name, description, text, folder, shown, files)


def _content(folder: Path, path: str, limit: int, *, follow: bool) -> bytes:
    """The beginning of a file. `follow`: wherever links lead."""
    if follow:
        real = (folder / path).resolve()
        folder, path = real.parent, real.name
    return read_beginning(folder, path, limit)


def _contents(folder: Path, room: _Room, *, follow: bool) -> Iterator[tuple[str, bytes]]:
    """The files of a skill, without hidden names. Raises `ValueError` if they are too many or too large.

    `follow`: also those that are links.
    """
    left = MAX_BYTES
    for number, path in enumerate(_paths(folder, follow=follow)):
        if number >= MAX_FILES:
            raise ValueError(f"it has more than {MAX_FILES} files")
        content = _content(folder, path, min(left, max(room.left, 0)) + 1, follow=follow)
        left, room.left = left - len(content), room.left - len(content)
        if room.left < 0:
            raise ValueError(f"the skills of the project have more than {ALL_BYTES >> 20} MiB")
        if left < 0:
            raise ValueError(f"its files have more than {MAX_BYTES >> 20} MiB")
        yield path, content


def _paths(folder: Path, below: str = "", depth: int = 0, *, follow: bool = False) -> Iterator[str]:
    with os.scandir(folder / below) as entries:
        found = sorted(islice(entries, MAX_FILES + 1), key=lambda entry: entry.name)
    for entry in found:
        path = f"{below}/{entry.name}".strip("/")
        if hiding_rule(path) or entry.name in (".git", "__pycache__"):
            continue
        if entry.is_file(follow_symlinks=follow):
            yield path
        elif entry.is_dir(follow_symlinks=follow) and depth < MAX_DEPTH:
            yield from _paths(folder, path, depth + 1, follow=follow)


# --- what a run reads of them


class SkillReader:
    """The skills of a run, and the folder that code in a sandbox reads them in. Any thread may call it."""

    def __init__(self, skills: Sequence[Skill], folder: Path, link: str) -> None:
        """
        Args:
            folder: is emptied, and gets the files of the skills that are read.
            link: the path of that folder as code in a sandbox has it.
        """
        self._skills = {skill.name: skill for skill in skills}
        self._link = link
        self._lock = threading.Lock()
        self.folder = folder
        remove(folder)
        folder.mkdir(parents=True, mode=0o700)

    def close(self) -> None:
        """Remove what was read."""
        remove(self.folder)

    def read(self, name: str, path: str = "") -> str:
        """What a skill says, or a text file of it. Raises `ValueError` and `OSError` with a plain reason."""
        skill = self._skills.get(name)
        if skill is None:
            raise ValueError(f"there is no skill {name!r}; there are {', '.join(self._skills)}")
        taken = self._taken(skill)
        if path:
            return str(file_tools(taken)["read_file"](path))
        lines = [f"The skill {name}."]
        if files := sorted(one for one in _paths(taken) if one != "SKILL.md"):
            lines += [f"Code can read and run its files in {self._link}/{name}:"]
            lines += [f"- {foreign_line(one, 200)}" for one in files]
            lines += [f'read_skill("{name}", path) gives the text of one.']
        return "\n".join([*lines, "What it says:", "", skill.text])

    def _taken(self, skill: Skill) -> Path:
        """The folder with a copy of its files, made when it is first asked for."""
        place = self.folder / skill.name
        with self._lock:
            if place.is_dir():
                return place
            scratch = self.folder / f".{skill.name}"
            remove(scratch)
            scratch.mkdir()
            taken = set[str]()
            for path, content in _contents(skill.folder, _Room(), follow=skill.files is None):
                if skill.files is not None and skill.files.get(path) != hashlib.sha256(content).hexdigest():
                    raise ValueError(f"{path} of the skill {skill.name} has changed since the run began")
                taken.add(path)
                file = scratch / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
                with suppress(OSError):
                    file.chmod(0o555 if (skill.folder / path).stat().st_mode & 0o100 else 0o444)
            if skill.files is not None and taken != skill.files.keys():
                raise ValueError(f"files of the skill {skill.name} are gone since the run began")
            scratch.rename(place)
        return place


def skill_tools(reader: SkillReader) -> dict[str, Callable[..., Any]]:
    """`read_skill`. It raises `ValueError` and `OSError` with a plain reason."""

    def read_skill(name: str, path: str = "") -> str:
        """Read a skill, which says how to do one kind of work, or one of its files.

        Args:
            name: The name of the skill.
            path: A file of the skill; without it you get the skill itself and the names of its files.
        """
        return reader.read(name, path)

    return {"read_skill": read_skill}
