"""What a workspace says about how to work, as far as its user allows it to reach models.

Strangers may have written it. So a person is asked about it once, and again about what has changed; the
answer, yes or no, is kept in `trust/` of the data folder, with a hash of each file. What was not allowed is
left out, and the run goes on without it. What is allowed is still data: it grants nothing.

Each run reads the files again and uses those with an allowed hash: models get what a person has allowed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from orchestrator_cli.durable.foreign import foreign_line, visible
from orchestrator_cli.recall.instructions import (
    InstructionFile,
    find_instructions,
    listed,
    shown_instructions,
)
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
    faults: tuple[str, ...] = ()
    """Why some of it cannot be used."""

    @property
    def offers(self) -> tuple[Offer, ...]:
        """All that strangers may have written."""
        return tuple(map(_offered_file, self.instructions))

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
        yes, no = (
            {name: sha256 for name, sha256 in said.items() if name not in new}
            for said in (self.answers.allowed, self.answers.declined)
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
        return Guidance(files=shown_instructions(files, settings.instruction_tokens))

    @property
    def notices(self) -> Iterator[str]:
        """What models are not given that a person may want to know of."""
        if names := [foreign_line(one.name, NAME_CHARS) for one in self.open]:
            changed = any(one.name in self.answers.allowed for one in self.open)
            why = "it changed since you allowed it" if changed else "you have not allowed it"
            yield (
                f"Models are not given {listed(names)}, because {why}. "
                f"Read it and allow it with: {trust_command(self.workspace)}"
            )
        if self.faults:
            yield f"Models are not given {listed([foreign_line(one, 300) for one in self.faults], 4)}"


def find_guidance(settings: Settings) -> Brought:
    """What the workspace brings, without what the settings switch off."""
    root, home = settings.workspace.resolve(), settings.home
    answers = _answers(home, root)
    if not settings.instruction_tokens:
        return Brought(root, home, answers)
    found = find_instructions(root)
    return Brought(root, home, answers, found.files, found.faults)


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
