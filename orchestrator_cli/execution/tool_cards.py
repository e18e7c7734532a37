"""Tools as a planner is shown them, and as the log names them. Pure."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import TypeAdapter

from orchestrator_cli import events
from orchestrator_cli.durable.text import truncate
from orchestrator_cli.planning.planner import ToolCard
from orchestrator_cli.values import FunctionDoc
from toolsmith.built import BuiltTool
from toolsmith.spec import requested_grants

Tool = Callable[..., Any]


def card(name: str, tool: Tool) -> ToolCard:
    """A hand-written tool as a planner is shown it: its signature and what its docstring begins with."""
    signature = inspect.signature(tool)
    purpose = (inspect.getdoc(tool) or "").split("\n\n")[0].replace("\n", " ")
    inputs = TypeAdapter(tool).json_schema()  # type: ignore[arg-type]  # a function is one too
    return ToolCard(name=name, signature=f"{name}{signature}", purpose=purpose, inputs=inputs)


def built_card(tool: BuiltTool) -> ToolCard:
    purpose = f"{tool.spec.purpose} Returns: {tool.spec.output_description}"
    if asked := requested_grants(tool.spec):
        purpose = f"{purpose} The user is asked for {asked}."
    signature, inputs = tool.spec.signature, tool.spec.arguments
    return ToolCard(name=tool.name, signature=signature, purpose=purpose, built=True, inputs=inputs)


PURPOSE_CHARS = 1_500
"""The most that a planner is shown of what others say of one tool."""
ALL_CHARS = 80_000
"""The most that it is shown of all tools together."""


def within_bounds(cards: Sequence[ToolCard]) -> tuple[ToolCard, ...]:
    """The cards in at most `ALL_CHARS`.

    The words of others get shorter first. Then the last tools of others are left out: they cannot be planned.
    """
    left = ALL_CHARS - sum(len(one.signature) + (0 if one.source else len(one.purpose)) for one in cards)
    shown = list(cards)
    while left < 0 and (last := _last_of_others(shown)) is not None:
        left += len(shown.pop(last).signature)
    others = sum(bool(one.source) for one in shown)
    most = min(PURPOSE_CHARS, max(left, 0) // others) if others else 0
    return tuple(_with_less(one, most) if one.source else one for one in shown)


def _last_of_others(cards: Sequence[ToolCard]) -> int | None:
    return next((at for at in reversed(range(len(cards))) if cards[at].source), None)


def _with_less(one: ToolCard, most: int) -> ToolCard:
    if len(one.purpose) <= most:
        return one
    return one.model_copy(update={"purpose": truncate(one.purpose, most) if most > 1 else ""})


def permissions_of(tool: BuiltTool) -> str:
    """What a built tool may have, in one line, with the exact versions of its packages."""
    spec = tool.spec
    network, secrets = ", ".join(spec.network) or "none", ", ".join(spec.secrets) or "none"
    needs = f"workspace: {spec.workspace}; network: {network}; secrets: {secrets}"
    if not spec.packages:
        return needs
    return f"{needs}; packages: {', '.join(spec.packages)} (installed: {', '.join(tool.lock.versions)})"


def built_event(tool: BuiltTool) -> events.ToolBuilt:
    return events.ToolBuilt(
        tool=tool.name,
        version=tool.version,
        purpose=tool.spec.purpose,
        functions=tuple(FunctionDoc(name=f.name, signature=f.signature, doc=f.doc) for f in tool.functions),
        permissions=permissions_of(tool),
        trial=tool.trial.lines,
        sha256=tool.sha256,
        source=tool.source,
        fingerprint=tool.fingerprint,
    )


def reused_event(tool: BuiltTool, instead_of: str, reason: str) -> events.ToolReused:
    return events.ToolReused(
        tool=tool.name,
        version=tool.version,
        purpose=tool.spec.purpose,
        sha256=tool.sha256,
        instead_of=instead_of,
        reason=reason,
        fingerprint=tool.fingerprint,
    )
