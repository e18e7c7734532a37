"""Searches the library for a tool that serves a need, before one is built. Pure, except for one model call.

Candidates are ranked by the similarity of their own words (name, purpose, inputs, result, and the need they
were built for) to the need's name and purpose, on a scale from 0 to 1 that means the same for every need. A
caller with a richer memory may add names; they come last and need no score.

Above the floor a model decides, in one call, whether a candidate serves as it is, serves once it is extended,
or does something else. No call is made if there is no candidate, or if a need has exactly the words of a
tool's purpose. Of 32 needs phrased differently than the one tool of thirty that serves them, 31 are above the
floor; 3 of 21 needs that no tool serves have a candidate, which costs one call, while a missed tool costs a
whole build. Requests of MetaTool, in which people ask for what a plugin advertises, share fewer words: 37 %
find the right one among 199, always in the first five. A wrong one is above the floor in 6 of 1,000 pairs.

Not covered: synonyms; callers with vectors can add names.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator_cli.durable.text import Similarity
from toolsmith.built import BuiltTool, ReuseDecision
from toolsmith.errors import ReplyFaulty
from toolsmith.names import folded, similarity, terms
from toolsmith.parsing import json_object
from toolsmith.spec import Need, ToolSpec
from toolsmith.writer import Complete, render

FLOOR = 0.25
MOST = 5
"""Candidates that a model is shown."""

Recall = Callable[[Need], Sequence[str]]
"""Names of tools that a memory finds similar, best first; unknown names are skipped."""


@dataclass(frozen=True)
class Candidate:
    """A tool that may serve. `score` is 0 if only a memory named it."""

    tool: BuiltTool
    score: float


@dataclass(frozen=True)
class Search:
    """What a search uses besides the tools' own words."""

    recall: Recall = lambda _: ()

    def faults(self, spec: ToolSpec, need: Need) -> tuple[str, ...]:
        """Why the planned calls do not fit a tool; it is used only if all of them do."""
        return tuple(dict.fromkeys(fault for call in need.calls for fault in planned_faults(spec, call)))


@dataclass(frozen=True)
class SearchResult:
    """The decision of a search, and the candidates."""

    decision: ReuseDecision
    candidates: tuple[Candidate, ...] = ()

    @property
    def tool(self) -> BuiltTool | None:
        """The tool that serves, or is to be extended."""
        return next((c.tool for c in self.candidates if c.tool.name == self.decision.tool), None)

    def ordered(self, tools: Iterable[BuiltTool]) -> list[BuiltTool]:
        """The tools, candidates first."""
        first = [one.tool for one in self.candidates]
        return [*first, *(tool for tool in tools if tool not in first)]


def find(
    need: Need, tools: Iterable[BuiltTool], complete: Complete, search: Search = Search()
) -> SearchResult:
    """Decide how a need is served, with at most one model call. What `complete` raises passes through.

    A reply that cannot be used counts as `new`: what is built then is compared with the candidates again.
    """
    tools = list(tools)
    found = candidates(need, tools, search.recall(need) if tools else ())
    if not found:
        return SearchResult(ReuseDecision("new", reason="the library has nothing like it"))
    if tool := same(need, found, search):
        return SearchResult(ReuseDecision("use", tool.name, "it was made for the same purpose"), found)
    offered = [{"text": described(one.tool), "faults": search.faults(one.tool.spec, need)} for one in found]
    try:
        reply = complete(render("match.md", need=need, candidates=offered))
        decision = read_decision(reply, [one.tool.name for one in found])
    except ReplyFaulty as exc:
        reason = (
            f"the reply about {', '.join(one.tool.name for one in found)} could not be used: {exc.faults[0]}"
        )
        return SearchResult(ReuseDecision("new", reason=reason), found)
    made = SearchResult(decision, found)
    if decision.kind == "use" and made.tool and (faults := search.faults(made.tool.spec, need)):
        reason = f"{decision.tool} would serve, but the planned call does not fit it: {'; '.join(faults)}"
        return SearchResult(ReuseDecision("new", reason=reason), found)
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
    # Tools that only a memory named must not be crowded out by many that share words.
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
    """Why a planned call cannot be made. The value of a reference is unknown, so it may have any type."""
    known = {
        name: value
        for name, value in arguments.items()
        if not (isinstance(value, str) and value.startswith("$"))
    }
    untyped = spec.argument_faults(arguments, typed=False)
    typed = [fault for fault in spec.argument_faults(known) if "is lacking" not in fault]
    return tuple(dict.fromkeys([*untyped, *typed]))


def read_decision(reply: str, offered: Sequence[str]) -> ReuseDecision:
    """A model's decision. Raises ReplyFaulty if it names no candidate or decides nothing."""
    raw = json_object(reply, "use", "extend", "new")
    said = [key for key in ("use", "extend", "new") if raw.get(key)]
    if len(said) != 1 or not isinstance(raw[said[0]], str):
        raise ReplyFaulty([f"Give exactly one of use, extend and new, with a text; it has {said or 'none'}."])
    kind, value = said[0], raw[said[0]]
    if kind == "new":
        return ReuseDecision("new", reason=value)
    names = {folded(name): name for name in offered}
    if folded(value) not in names:
        raise ReplyFaulty([f"{value!r} is no candidate; there are {', '.join(offered)}."])
    said = raw.get("what" if kind == "extend" else "why", "")
    if kind == "extend" and not (isinstance(said, str) and said.strip()):
        raise ReplyFaulty(["With extend, `what` has to say what is to be added."])
    return ReuseDecision("use" if kind == "use" else "extend", names[folded(value)], str(said))


def described(tool: BuiltTool) -> str:
    """A candidate for the model: its contract, without its cases."""
    spec = tool.spec
    described_tool = {
        "name": spec.name,
        "purpose": spec.purpose,
        "inputs": {name: given.model_dump(mode="json") for name, given in spec.inputs.items()},
        "output_type": spec.output_type,
        "output_description": spec.output_description,
        "errors": [error.model_dump(mode="json") for error in spec.errors],
        "workspace": spec.workspace,
        "network": list(spec.network),
    }
    return json.dumps(described_tool, ensure_ascii=False, indent=2)


# --- words


def _said(tool: BuiltTool) -> tuple[str, str, str]:
    """A tool's purpose, the need it was built for, and all its words."""
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
