"""What a folder may set and bring, and what happens to it: the rule of each setting, and a table. Pure."""

from collections.abc import Iterator
from enum import Enum
from typing import Annotated, NamedTuple, TypeVar

from pydantic import BaseModel, JsonValue


class Outcome(NamedTuple):
    """What happens to something that a folder brings."""

    attended: str
    """A person is at the terminal."""
    unattended: str
    """No terminal, `--json`, `--stream-json`, or an MCP server."""
    yes: str
    """Unattended, with `-y`."""


USED = Outcome("used", "used", "used")
ONCE = Outcome("asked once", "refused", "refused")
REFUSED = Outcome("refused", "refused", "refused")
LEFT_OUT = Outcome("asked once", "left out", "left out")
UNREAD = Outcome("not read", "not read", "not read")


class FolderRule(Enum):
    """What `orch.toml` of a workspace may do with a setting."""

    FREE = "may set it"
    LOWER = "may lower it, below your own or the default value"
    STRICTER = "may add to what you are asked about"
    ASKED = "is asked about"
    USER_ONLY = "can never set it"

    @property
    def cases(self) -> dict[str, Outcome]:
        """What a file may try with a setting of this rule, and what happens."""
        match self:
            case FolderRule.FREE:
                return {"set": USED}
            case FolderRule.LOWER:
                return {"lowered": USED, "raised": ONCE}
            case FolderRule.STRICTER:
                return {"more": USED, "less": ONCE}
            case FolderRule.ASKED:
                return {"set": ONCE}
        return {"set": REFUSED}

    def permits(self, value: JsonValue, yours: JsonValue) -> bool:
        """Whether no question is needed. `yours` is the value without the workspace's file."""
        match self:
            case FolderRule.FREE:
                return True
            case FolderRule.LOWER:
                return yours is None or value <= yours  # type: ignore[operator]  # both are numbers
            case FolderRule.STRICTER:
                return set(value) >= set(yours)  # type: ignore[arg-type]  # both are lists
        return False


T = TypeVar("T")
Free = Annotated[T, FolderRule.FREE]
Lower = Annotated[T, FolderRule.LOWER]
Asked = Annotated[T, FolderRule.ASKED]
UserOnly = Annotated[T, FolderRule.USER_ONLY]


def rule_of(settings: type[BaseModel], name: str) -> FolderRule:
    """The rule of a setting; without one it is asked about."""
    metadata = settings.model_fields[name].metadata
    return next((mark for mark in metadata if isinstance(mark, FolderRule)), FolderRule.ASKED)


FOLDERS = {
    "`orch.toml` that is not TOML, nests deeply, names an unknown setting, or is larger than 16 KiB": REFUSED,
    "a model whose name holds an address (`://`), in any setting": REFUSED,
    "the folder is your home folder, or contains it": ONCE,
    "the folder contains the data folder (`ORCH_HOME`), the folder of your settings, or `prefect_home`": ONCE,
    "the folder is one of these three, or inside it": REFUSED,
    "an MCP server of `.mcp.json`, `.cursor/mcp.json` or `.vscode/mcp.json`": LEFT_OUT,
    "`AGENTS.md`, `CLAUDE.md`, `GEMINI.md`, `.agents/skills/`, `.claude/skills/`": LEFT_OUT,
    "`.env`, `prefect.toml`": UNREAD,
    "`roles/`, `skills/`, `prompts/`, `workflows/`": UNREAD,
}
"""What else a folder can bring. What is not read is data at most: an agent may open it as any other file."""


def folder_table(settings: type[BaseModel]) -> Iterator[tuple[str, str, Outcome]]:
    """A row for each thing that a folder can bring: its name, what is tried with it, what happens."""
    for name in settings.model_fields:
        yield from ((f"`{name}`", case, outcome) for case, outcome in rule_of(settings, name).cases.items())
    yield from ((name, "", outcome) for name, outcome in FOLDERS.items())
