"""What a workspace and its user say about how to work, as far as the user allows it to reach models.

Strangers may have written what is in a workspace. So a person is asked about it once, and again about what
has changed; the answer, yes or no, is kept in `trust/` of the data folder, with a hash of each file. What was
not allowed is left out, and the run goes on without it. What is allowed is still data: it grants nothing.

Each run reads the files again and uses those with an allowed hash: models get what a person has allowed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from orchestrator_cli.durable.foreign import foreign_line, visible
from orchestrator_cli.durable.text import listed
from orchestrator_cli.recall.instructions import (
    Found,
    InstructionFile,
    find_instructions,
    shown_instructions,
)
from orchestrator_cli.recall.skills import FoundSkills, Skill, SkillReader, find_skills, skill_cards
from orchestrator_cli.settings import Settings
from orchestrator_cli.trust import answer_place, keep_answer, trust_command
from orchestrator_cli.values import Guidance

KIND = "-guidance"
NAME_CHARS, ABOUT_CHARS = 200, 100


class GuidanceAnswers(BaseModel):
    """What a person has said about the words of a workspace: the hash of each file, by its name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workspace: str
    allowed: dict[str, str] = {}
    declined: dict[str, str] = {}


class Offer(NamedTuple):
    """Something that strangers may have written, and a person may allow."""

    name: str
    """Such as `AGENTS.md`."""
    about: str
    text: str
    """What a person can read before they decide."""
    sha256: str

    @property
    def line(self) -> str:
        """For people."""
        return f"{foreign_line(self.name, NAME_CHARS)}: {foreign_line(self.about, ABOUT_CHARS)}"

    @property
    def page(self) -> list[str]:
        """All of it, without a sign that a terminal obeys or hides."""
        return [self.line, *(f"  | {visible(line)}" for line in self.text.split("\n"))]


@dataclass(frozen=True)
class Brought:
    """What a workspace brings, and what its user has said about it."""

    workspace: Path
    """Its real path."""
    home: Path
    """The data folder, which keeps the answers."""
    answers: GuidanceAnswers
    instructions: tuple[InstructionFile, ...] = ()
    skills: tuple[Skill, ...] = ()
    faults: tuple[str, ...] = ()
    """Why some of it cannot be used."""

    @property
    def offers(self) -> tuple[Offer, ...]:
        """All that strangers may have written."""
        skills = (_offered_skill(skill) for skill in self.skills if skill.files is not None)
        return (*map(_offered_file, self.instructions), *skills)

    @property
    def open(self) -> tuple[Offer, ...]:
        """What no one has answered yet in its present state."""
        yes, no = self.answers.allowed, self.answers.declined
        return tuple(one for one in self.offers if one.sha256 not in (yes.get(one.name), no.get(one.name)))

    @property
    def not_allowed(self) -> tuple[Offer, ...]:
        return tuple(one for one in self.offers if not self._allows(one))

    def _allows(self, offer: Offer) -> bool:
        return self.answers.allowed.get(offer.name) == offer.sha256

    def answer(self, offers: Iterable[Offer], *, allow: bool) -> None:
        """Keep what a person has answered. Raises `ConfigError` if that cannot be written."""
        new = {one.name: one.sha256 for one in offers}
        kept_now = _answers(self.home, self.workspace)  # another process may have changed it meanwhile
        yes, no = (
            {name: sha256 for name, sha256 in said.items() if name not in new}
            for said in (kept_now.allowed, kept_now.declined)
        )
        kept = GuidanceAnswers(
            workspace=str(self.workspace),
            allowed=yes | new if allow else yes,
            declined=no if allow else no | new,
        )
        keep_answer(answer_place(self.home, self.workspace, KIND), kept)

    # --- what a run uses

    def guidance(self, settings: Settings) -> Guidance:
        """What is allowed, within the limits of the settings."""
        allowed = {one.name for one in self.offers if self._allows(one)}
        files = [file for file in self.instructions if file.path in allowed]
        return Guidance(
            files=shown_instructions(files, settings.instruction_tokens),
            skills=skill_cards(self.usable_skills),
        )

    @property
    def usable_skills(self) -> tuple[Skill, ...]:
        """The user's own, and those of the project that are allowed."""
        allowed = {one.name for one in self.offers if self._allows(one)}
        return tuple(one for one in self.skills if one.files is None or one.place in allowed)

    def open_skills(self, run: Path, link: str) -> SkillReader | None:
        """What reads the skills of a run, in its folder `run` of the data folder; None if there are none."""
        return SkillReader(self.usable_skills, run / "skills", link) if self.usable_skills else None

    @property
    def notices(self) -> Iterator[str]:
        """What models are not given that a person may want to know of."""
        if names := [foreign_line(one.name, NAME_CHARS) for one in self.open]:
            changed = any(one.name in self.answers.allowed for one in self.open)
            it = "it" if len(names) == 1 else "them"
            why = "what you allowed has changed" if changed else f"you have not allowed {it}"
            yield (
                f"Models are not given {listed(names, 8)}, because {why}. "
                f"Read {it} and allow {it} with: {trust_command(self.workspace)}"
            )
        yield from self.refused

    @property
    def refused(self) -> Iterator[str]:
        """What cannot be used, with the reasons; for people."""
        if self.faults:
            yield f"Models are not given {listed([foreign_line(one, 300) for one in self.faults], 4)}"


def find_guidance(settings: Settings, *, wanted: bool = True) -> Brought:
    """What workspace and user bring, without what the settings switch off; nothing if not `wanted`."""
    root, home = settings.workspace.resolve(), settings.home
    if not wanted:
        return Brought(root, home, GuidanceAnswers(workspace=str(root)))
    texts = find_instructions(root) if settings.instruction_tokens else Found((), ())
    skills = find_skills(root, home) if settings.max_skills else FoundSkills((), ())
    faults = [*texts.faults, *skills.faults]
    if more := [one.name for one in skills.skills[settings.max_skills :]]:
        faults.append(f"{len(more)} skills after the first {settings.max_skills} (max_skills)")
    offered = skills.skills[: settings.max_skills]
    return Brought(root, home, _answers(home, root), texts.files, offered, tuple(faults))


def forget_answers(home: Path, workspace: Path) -> bool:
    """Take back what was said about a workspace. Returns whether there was anything."""
    try:
        answer_place(home, workspace, KIND).unlink()
    except FileNotFoundError:
        return False
    return True


def _answers(home: Path, workspace: Path) -> GuidanceAnswers:
    none = GuidanceAnswers(workspace=str(workspace))
    try:
        found = GuidanceAnswers.model_validate_json(answer_place(home, workspace, KIND).read_bytes())
    except (OSError, ValueError):
        return none
    return found if found.workspace == none.workspace else none


def _offered_file(file: InstructionFile) -> Offer:
    size = len(file.text.encode()) + file.unread
    unread = f"\n… ({file.unread:,} more bytes, which are not read)" if file.unread else ""
    about = f"{size:,} bytes of instructions for {file.folder or 'all work here'}"
    return Offer(file.path, about, f"{file.text}{unread}", file.sha256)


def _offered_skill(skill: Skill) -> Offer:
    files = sorted(path for path in skill.files or () if path != "SKILL.md")
    more = "\n".join(["", "", "Files that code of agents can run and read:", *files]) if files else ""
    text = f"{skill.description}\n\n{skill.text}{more}"
    size = f"{len(files)} more files" if len(files) != 1 else "1 more file"
    return Offer(skill.place, f"a skill with {size}: {skill.description}", text, skill.sha256)
