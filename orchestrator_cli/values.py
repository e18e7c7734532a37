"""The smaller values that events, plans and the state of a run are made of."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue


class Usage(BaseModel):
    """`cost` is in US dollars over the calls with a known price; `unpriced` counts the others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls: int = 0
    """Those that were answered."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Those of the prompts that the provider had kept, and bills for less."""
    cost: float = 0.0
    unpriced: int = 0
    failed: int = 0
    """Tries of a call that the provider did not answer."""
    stopped: int = 0
    """Tries that ended before an answer because the user or a time limit stopped the work."""
    unsure_tokens: int = 0
    """What tries without a whole reply may have used at most, if a limit needed to know."""
    unsure_cost: float = 0.0

    @classmethod
    def of_try(
        cls,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int,
        cost: float | None,
        *,
        failed: bool,
        stopped: bool = False,
    ) -> "Usage":
        """Of one try of a call; a `stopped` one is not `failed`. `cost` is None if the price is not known."""
        failed = failed and not stopped
        is_answered = not (failed or stopped)
        return cls(
            calls=int(is_answered),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cached_tokens=cached_tokens,
            cost=cost or 0.0,
            unpriced=int(cost is None and is_answered),
            failed=int(failed),
            stopped=int(stopped),
        )

    @property
    def tries(self) -> int:
        """Every call that was made, answered or not."""
        return self.calls + self.failed + self.stopped

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in Usage.model_fields})

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(**{name: getattr(self, name) - getattr(other, name) for name in Usage.model_fields})


def seconds_between(since: datetime, until: datetime) -> float:
    """The seconds from one time to a later one; 0.0 if the clock was set back in between."""
    return max(0.0, (until - since).total_seconds())


class Part(BaseModel):
    """A frozen piece of a fact."""

    model_config = ConfigDict(frozen=True)


class Fact(Part):
    """Something that happened. Each class is a kind, which has the name of the class."""

    kind: str = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__annotations__["kind"] = Literal[cls.__name__]
        cls.kind = cls.__name__


class Deadline(Part):
    """When a question is answered for a person who has not, by the clocks of the moment it was asked."""

    asked: datetime
    within_s: float
    default: str | None = None
    """The answer, if the question is one in words."""
    boot: str = ""
    """The boot of the machine; empty if it is not known."""
    boot_s: float = 0.0
    """By the clock of that boot."""

    @property
    def until(self) -> datetime:
        return self.asked + timedelta(seconds=self.within_s)


class Turn(Part):
    """A prompt of the same session and what was answered."""

    prompt: str
    answer: str
    files: tuple[str, ...] = ()
    """What was made or changed for it."""
    plan: tuple[str, ...] = ()
    """The graph that it led to, a line for each subtask."""


class Conversation(Part):
    """What was said before in the same session, as far as a planner is shown it."""

    session: str = ""
    """Its name; empty where the run belongs to none."""
    earlier: str = ""
    """What the older turns came to, in short."""
    turns: tuple[Turn, ...] = ()
    """The newest, oldest first."""

    def __bool__(self) -> bool:
        """Whether anything was said."""
        return bool(self.turns or self.earlier)


class Remembered(Part):
    """An earlier run that memory brought, and what it is used for."""

    run: str
    prompt: str = ""
    use: Literal["example", "hint", "warning", "withheld"]
    """`withheld`: what it says may come from the web, and the user has not called it good."""
    reason: str = ""
    """Why it is used so: what the user said, or why it failed."""


class ShownMemory(Part):
    """Something remembered that a planner was shown, besides earlier runs as examples."""

    what: Literal["fact", "said"]
    """A fact about the user, or what was said in another conversation or an earlier run."""
    id: str
    """Of its record."""
    text: str
    origin: str = ""
    """Its day and source, such as `3 May 2026, session march`."""
    score: float = 0.0
    """How near it is to the request, from 0 to 1."""
    why: str = ""

    @property
    def line(self) -> str:
        """As it was shown."""
        return f"{self.text} ({self.origin})"


class Swapped(Part):
    """A parameter of the earlier prompt, and the value that replaces it."""

    old: str
    new: str


class FunctionDoc(Part):
    name: str
    signature: str
    doc: str


class InstructionText(Part):
    """A file of instructions, as models are shown it."""

    path: str
    """From the workspace, such as `AGENTS.md` or `../AGENTS.md`."""
    folder: str = ""
    """The folder of the workspace whose work it is about; empty if it is about all of it."""
    text: str
    left_out: int = 0
    """How many bytes of it are not shown."""

    @property
    def label(self) -> str:
        """For people: its path, and whether it was cut."""
        return f"{self.path} (cut, {self.left_out:,} bytes left out)" if self.left_out else self.path


class SkillCard(Part):
    """A skill, as it is offered."""

    name: str
    description: str


class Guidance(Part):
    """What the project and the user have written down about how to work."""

    files: tuple[InstructionText, ...] = ()
    """From the outermost folder to the deepest."""
    skills: tuple[SkillCard, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """For people: each file and each skill."""
        return (*(file.label for file in self.files), *(f"skill {skill.name}" for skill in self.skills))


class Attachment(Part):
    """A file that the user gave a run, as the journal keeps it."""

    name: str
    """How prompts and plans call it; unique in its run."""
    path: str
    """Where it was read."""
    kind: Literal["text", "image", "audio"]
    media: str
    """The media type of what is kept."""
    size: int
    """Bytes of the file."""
    sha256: str
    """The hash of the file."""
    kept: str
    """The hash of what is kept in `blobs/` of the run: Markdown, an image for models, or a recording."""
    about: str = ""
    """What of it is kept, in a few words."""

    @property
    def line(self) -> str:
        """For people and models: its kind and size, and what of it is kept."""
        return ", ".join(filter(None, (self.media, f"{self.size:,} bytes", self.about)))


class PromptOptions(Part):
    """What goes with a prompt."""

    attach: tuple[Path, ...] = ()
    """Files for models, which the user named."""
    answer_schema: dict[str, JsonValue] | None = None
    """The JSON Schema that the answer has to satisfy; None for an answer in words."""
    speak: Path | None = None
    """The file that gets the answer as sound."""


NO_OPTIONS = PromptOptions()


class AttachedFile(Part):
    """An attachment as models are given it."""

    name: str
    line: str
    """As in `Attachment`."""
    text: str = ""
    image: str = ""
    """An image as a `data:` address."""


class FileChange(Part):
    path: str
    change: Literal["created", "modified", "deleted"]
    before_size: int | None = None
    after_size: int | None = None
    before_sha256: str | None = None
    after_sha256: str | None = None


AnsweredBy = Literal["user", "page", "flag", "settings", "deadline"]
"""Who answered; `page` is the user on Prefect's page, and `deadline` that no one did in time."""
ANSWERED_BY: dict[AnsweredBy, str] = {
    "user": "the user",
    "page": "the user on Prefect's page",
    "flag": "the flag -y",
    "settings": "the settings",
    "deadline": "the deadline",
}
"""Who answered, for a sentence."""
Outcome = Literal["completed", "failed", "interrupted", "paused", "cancelled", "planned"]
"""How a run ended."""
Asked = Literal[
    "plan", "tools", "network", "secrets", "packages", "writes", "executes", "effects", "sandbox",
    "subtask", "question",
]  # fmt: skip
"""What an approval is about; `question` is a subtask of kind human, or about the run if it names none."""


class OpenApproval(Part):
    """A question to a person."""

    id: str
    what: Asked
    subject: str
    """The subtask, tool or plan version that it is about."""
    question: str
    details: str = ""
    result: dict[str, JsonValue] | None = None
    """For a `question` the JSON Schema of its answer, where it has one."""
    items: tuple[str, ...] = ()
    """For `executes`, the paths that a yes allows; for `effects`, the key of a call made before."""
    deadline: Deadline | None = None  # for a person who is not there
