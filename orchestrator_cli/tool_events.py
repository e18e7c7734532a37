"""The events about tools: what was asked for, tried, built, taken from the library and refused."""

from orchestrator_cli.values import Fact, FunctionDoc


class ToolNeeded(Fact):
    tool: str
    purpose: str
    asked_by: str
    """`plan`, or the subtask whose agent asked."""


class ToolTried(Fact):
    """One round of writing and trying a tool."""

    tool: str
    round: int
    passed: bool
    results: tuple[str, ...]
    """A line per trial case, or the checker's faults."""
    source: str = ""
    """The code of the round."""


class ToolBuilt(Fact):
    tool: str
    version: int
    purpose: str
    functions: tuple[FunctionDoc, ...]
    permissions: str
    trial: tuple[str, ...]
    sha256: str
    source: str
    fingerprint: str = ""
    """That of `BuiltTool`; empty in a journal from before there was one."""


class ToolReused(Fact):
    """A tool came from the library instead of being built again."""

    tool: str
    version: int
    purpose: str
    sha256: str
    instead_of: str = ""
    """The tool that was asked for, where it is served by one of another name."""
    reason: str = ""
    """Why that one serves."""
    fingerprint: str = ""
    """As in `ToolBuilt`."""


class ToolRefused(Fact):
    tool: str
    reasons: tuple[str, ...]
