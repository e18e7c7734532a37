"""Searching the library for a tool that would serve a need, before one is built. Pure, but for one call.

Candidates are ranked by what they say they do: name, purpose, inputs and result, and the need that they
were built for, against the need's name and purpose. The score, from 0 to 1, means the same for every need:
how much of what is said, weighed by how telling each word is, do both say? A caller may add names (from a
memory that knows more); they come last and need no score.

Above the floor a model decides, in one call, whether a candidate serves as it is, serves once it is
extended, or does something else. A need that is the same as a tool's, word for word, needs no call, and
where there is no candidate there is none. Of 32 needs put in other words than the one tool of thirty that
serves them, 31 lie above the floor; 3 of 21 needs that none serves bring a candidate all the same, which
costs that one call, where a tool that is missed costs a whole build. Requests of MetaTool, in which a person
asks for what a plugin advertises, share fewer words: 37 % find the right one among 199, always in the first
five, and a wrong one lies above the floor in 6 pairs of 1,000.

Not covered: synonyms; whoever has vectors hands in names.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator_cli.durable.similarity import Similarity
from toolsmith.built import BuiltTool
from toolsmith.errors import ReplyFaulty
from toolsmith.likeness import similarity, terms
from toolsmith.names import folded
from toolsmith.replies import json_object
from toolsmith.spec import Need, ToolSpec
from toolsmith.writer import Complete, render

FLOOR = 0.25
MOST = 5
"""Candidates that a model is shown."""

Recall = Callable[[Need], Sequence[str]]
"""Names of tools that a memory holds for alike, best first; names of none are passed over."""


@dataclass(frozen=True)
class Candidate:
    """A tool that may serve. `score` is 0 where only a memory named it."""

    tool: BuiltTool
    score: float


@dataclass(frozen=True)
class Decision:
    """What becomes of a need: served by `tool`, by `tool` once extended, or by a new one (`tool` is "")."""

    kind: Literal["use", "extend", "new"]
    tool: str = ""
    reason: str = ""
    """Why it serves, or why none does; for `extend`, what is to be added."""


@dataclass(frozen=True)
class Search:
    """How a need is searched for, beside what the tools themselves say."""

    recall: Recall = lambda _: ()
    calls: Sequence[Mapping[str, Any]] = ()
    """Every call that is planned with arguments; a tool is used only where all of them fit it."""

    def faults(self, spec: ToolSpec, need: Need) -> tuple[str, ...]:
        """Why the planned calls do not fit a tool."""
        calls = self.calls or ([need.arguments] if need.arguments is not None else [])
        return tuple(dict.fromkeys(fault for call in calls for fault in planned_faults(spec, call)))


@dataclass(frozen=True)
class Found:
    """What a search came to, and between which tools it was decided."""

    decision: Decision
    candidates: tuple[Candidate, ...] = ()

    @property
    def tool(self) -> BuiltTool | None:
        """The tool that serves, or is to be extended."""
        return next((c.tool for c in self.candidates if c.tool.name == self.decision.tool), None)

    def ordered(self, tools: Iterable[BuiltTool]) -> list[BuiltTool]:
        """The tools, candidates first."""
        first = [one.tool for one in self.candidates]
        return [*first, *(tool for tool in tools if tool not in first)]


def find(need: Need, tools: Iterable[BuiltTool], complete: Complete, search: Search = Search()) -> Found:
    """Decide what becomes of a need. At most one model call; what `complete` raises passes through.

    A reply that cannot be used counts as `new`: what is built then is compared with the candidates again.
    """
    tools = list(tools)
    found = candidates(need, tools, search.recall(need) if tools else ())
    if not found:
        return Found(Decision("new", reason="the library has nothing like it"))
    if tool := same(need, found, search):
        return Found(Decision("use", tool.name, "it was made for the same purpose"), found)
    offered = [{"told": described(one.tool), "faults": search.faults(one.tool.spec, need)} for one in found]
    reply = complete(render("match.md", need=need, candidates=offered))
    try:
        decision = read_decision(reply, [one.tool.name for one in found])
    except ReplyFaulty as exc:
        reason = (
            f"the reply about {', '.join(one.tool.name for one in found)} could not be used: {exc.faults[0]}"
        )
        return Found(Decision("new", reason=reason), found)
    made = Found(decision, found)
    if decision.kind == "use" and made.tool and (faults := search.faults(made.tool.spec, need)):
        reason = f"{decision.tool} would serve, but the planned call does not fit it: {'; '.join(faults)}"
        return Found(Decision("new", reason=reason), found)
    return made


def candidates(
    need: Need, tools: Iterable[BuiltTool], recalled: Sequence[str] = (), *, floor: float = FLOOR
) -> tuple[Candidate, ...]:
    """The tools that may serve, best first, at most `MOST`."""
    known = {tool.name: tool for tool in tools}
    words = {name: [terms(text) for text in _said(tool)] for name, tool in known.items()}
    similar = similarity(said[-1] for said in words.values())
    wanted = terms(f"{need.tool_name} {need.purpose}")
    scores = {name: _score(wanted, said, similar) for name, said in words.items()}
    ranked = sorted((name for name in known if scores[name] >= floor), key=lambda name: (-scores[name], name))
    added = [name for name in dict.fromkeys(recalled) if name in known and name not in ranked]
    # One that only a memory knows of must not be crowded out by many that share words.
    chosen = [*ranked[: MOST - min(len(added), 2)], *added][:MOST]
    return tuple(Candidate(known[name], round(scores[name], 3)) for name in chosen)


def same(need: Need, found: Iterable[Candidate], search: Search = Search()) -> BuiltTool | None:
    """The candidate that was specified, or built, for the very same purpose and fits the planned call."""
    wanted = _plain(need.purpose)
    for candidate in found:
        tool = candidate.tool
        purposes = {_plain(tool.spec.purpose), _plain(tool.origin.need.purpose)}
        if wanted in purposes and not search.faults(tool.spec, need):
            return tool
    return None


def planned_faults(spec: ToolSpec, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Why a planned call cannot be made; what a reference stands for is not known, so its type may be any."""
    known = {name: value for name, value in arguments.items() if not _is_reference(value)}
    untyped = spec.argument_faults(arguments, typed=False)
    typed = [fault for fault in spec.argument_faults(known) if "is lacking" not in fault]
    return tuple(dict.fromkeys([*untyped, *typed]))


def read_decision(reply: str, offered: Sequence[str]) -> Decision:
    """What a model decided. Raises ReplyFaulty where it names no candidate or decides nothing."""
    raw = json_object(reply)
    said = [key for key in ("use", "extend", "new") if raw.get(key)]
    if len(said) != 1 or not isinstance(raw[said[0]], str):
        raise ReplyFaulty([f"Give exactly one of use, extend and new, with a text; it has {said or 'none'}."])
    kind, value = said[0], raw[said[0]]
    if kind == "new":
        return Decision("new", reason=value)
    names = {folded(name): name for name in offered}
    if folded(value) not in names:
        raise ReplyFaulty([f"{value!r} is no candidate; there are {', '.join(offered)}."])
    told = raw.get("what" if kind == "extend" else "why", "")
    if kind == "extend" and not (isinstance(told, str) and told.strip()):
        raise ReplyFaulty(["With extend, `what` has to say what is to be added."])
    return Decision("use" if kind == "use" else "extend", names[folded(value)], str(told))


def described(tool: BuiltTool) -> str:
    """A candidate as a model is shown it: its contract, without its cases."""
    spec = tool.spec
    told = {
        "name": spec.name,
        "purpose": spec.purpose,
        "inputs": {name: given.model_dump(mode="json") for name, given in spec.inputs.items()},
        "output_type": spec.output_type,
        "output_description": spec.output_description,
        "errors": [error.model_dump(mode="json") for error in spec.errors],
        "workspace": spec.workspace,
        "network": list(spec.network),
    }
    return json.dumps(told, ensure_ascii=False, indent=2)


# --- words


def _said(tool: BuiltTool) -> tuple[str, str, str]:
    """What a tool says of its purpose, what was asked for when it was built, and all it says of itself."""
    spec, asked = tool.spec, tool.origin.need
    inputs = (f"{name} {given.description}" for name, given in spec.inputs.items())
    purpose = f"{spec.name} {spec.purpose}"
    return purpose, f"{asked.name} {asked.purpose}", " ".join((purpose, *inputs, spec.output_description))


def _score(wanted: frozenset[str], said: Sequence[frozenset[str]], similar: Similarity[str]) -> float:
    *purposes, whole = said
    # Words that most tools have in common say nothing of a tool.
    by_all = similar.cosine(wanted, whole) if wanted & whole - similar.common else 0.0
    return max(by_all, *(similar.containment(wanted, text) for text in purposes))


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def _is_reference(value: object) -> bool:
    return isinstance(value, str) and value.startswith("$")
