"""Built tools that may help with a prompt.

A tool is found by its name and purpose, by requests it served, and by its use in completed runs that are
recalled for this prompt. With a score of at least `TOOL_FLOOR` it probably serves. This is rare, because a
request seldom uses the words of a tool's description. So up to `FEW_TOOLS` related ones are returned as well:
a line each in the planner's request, and a planner can judge better. Callers that want no guesses check
`serves`.

With vectors of a model whose floors are known, a tool is related if it is near, helped by the words; without
them, if it shares a significant word. docs/benchmarks.md has what each floor finds and shows in vain.

What is not covered: whether the tool works.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from memory.distiller import tool_words
from memory.embedder import DenseVector, Floors, similarity, terms
from memory.records import TOOL, Record, Scope, Trust, record_id
from memory.retrieval import RANKINGS, merge_hits, nearness, scaled, score_key
from memory.store import Memory, Query
from orchestrator_cli.durable.text import Similarity

TOOL_FLOOR = 0.32
"""The score from which a tool is taken to serve."""
RELATED_FLOOR = 0.1
"""The score from which a tool is related to the prompt."""
FEW_TOOLS = 5
"""How many related tools are returned if fewer serve."""

_CANDIDATES = 64
_NEAREST_TOOLS = 256
"""More than by words: of a tool that is not among them it is not known whether it is near."""
_WORDS_OF_NEAR = 0.5
"""How much a score by words adds to a cosine."""


class RecalledTool(BaseModel):
    """A built tool; `score`, at most 1.0, is how much of its description the prompt contains, by words or by
    meaning."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    purpose: str
    signature: str
    score: float
    trust: Trust

    @property
    def serves(self) -> bool:
        """Whether it is likely to be the tool that is wanted, rather than a related one."""
        return self.score >= TOOL_FLOOR


def related_tools(
    memory: Memory,
    prompt: str,
    scope: Scope,
    used_in_runs: Mapping[str, float],
    near: DenseVector | None = None,
) -> list[RecalledTool]:
    """The tools that may help with the prompt, best first.

    `used_in_runs` has those of similar runs, each with the similarity. Raises what the store raises.
    """
    hits = memory.search(Query(prompt, kinds=TOOL, scope=scope, limit=_CANDIDATES))
    near_hits = memory.search(Query(near, kinds=TOOL, scope=scope, limit=_NEAREST_TOOLS)) if near else []
    cosines, nearer = {hit.record.id: hit.score for hit in near_hits}, nearness(near_hits)
    found = scaled({hit.record.id: hit.score for hit in hits})
    hits = merge_hits(hits, near_hits)
    # A tool may be recorded for the project or for the user. A name without a record is not a built tool.
    owners = {scope, scope.user_wide}
    missing = [
        id_ for n in used_in_runs for owner in owners if (id_ := record_id(owner, TOOL, n)) not in found
    ]
    known = [hit.record for hit in hits] + (memory.get(missing, scope) if missing else [])
    records = [record for record in known if _describes_tool(record.data)]

    compared = similarity(_own_terms(record) for record in records)
    wanted = terms(prompt)
    ranked: dict[str, tuple[float, RecalledTool]] = {}
    for record in sorted(records, key=lambda record: record.created):
        used = used_in_runs.get(record.key, 0.0)
        words = max(_tool_score(record, wanted, compared), used)
        floors = near.floors if near is not None else None
        score = _with_meaning(words, cosines.get(record.id), floors)
        if score < RELATED_FLOOR:
            continue
        # The search distinguishes tools better than the score, which says whether any of them is good.
        rank = (
            max(found.get(record.id, 0.0), used)
            + words / 2
            + RANKINGS[TOOL].near * nearer.get(score_key(record), 0.0)
        )
        data: Mapping[str, Any] = record.data
        ranked[record.key] = (
            rank,
            RecalledTool(
                name=record.key,
                score=score,
                trust=record.trust,
                **{field: data[field] for field in _DESCRIBED},
            ),
        )
    tools = [tool for _, tool in sorted(ranked.values(), key=lambda one: (-one[0], one[1].name))]
    return [tool for number, tool in enumerate(tools) if tool.serves or number < FEW_TOOLS]


_DESCRIBED = ("version", "purpose", "signature")


def _describes_tool(data: Mapping[str, Any]) -> bool:
    """Whether the data of a record are a tool's."""
    return all(isinstance(data.get(field), str) for field in _DESCRIBED)


def _tool_score(record: Record, wanted: frozenset[int], compared: Similarity[int]) -> float:
    prompts = record.data.get("prompts")
    earlier = [terms(str(prompt)) for prompt in prompts] if isinstance(prompts, list) else []
    # Requests that share only common words say nothing, unless they are the same.
    telling = (words for words in earlier if words == wanted or compared.containment(wanted, words))
    by_prompts = max((compared.cosine(wanted, words) for words in telling), default=0.0)
    return max(compared.containment(wanted, _own_terms(record)), by_prompts)


def _with_meaning(words: float, cosine: float | None, floors: Floors | None) -> float:
    """The score by words and meaning, on the scale of that by words."""
    if cosine is None or floors is None:
        return words
    near = cosine + _WORDS_OF_NEAR * words
    if near < floors.related:
        return 0.0
    # From one floor to the other as by words, and beyond it up to 1.
    if near < floors.serves:
        share = (near - floors.related) / (floors.serves - floors.related)
        return RELATED_FLOOR + share * (TOOL_FLOOR - RELATED_FLOOR)
    return min(TOOL_FLOOR + (near - floors.serves), 1.0)


def _own_terms(record: Record) -> frozenset[int]:
    return terms(tool_words(record.key, str(record.data.get("purpose", ""))))
