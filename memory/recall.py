"""What memory brings before planning: runs whose prompt was alike, and built tools that may serve.

BM25 brings candidates; what counts as alike is judged anew on a scale that means the same for every
prompt (see `relevance`), with a floor below which nothing is recalled. The floors were set on the pairs in
tests/memory/test_memory_recall.py, where alike prompts lay at 0.43 and above and unlike ones at 0.35 and
below, with three debatable ones between. Of 16 pairs written afterwards 15 were found, and none of the 480
unlike combinations of their prompts rose above 0.28.

A tool is found by its name and purpose, by requests it was recorded with, and by the completed runs
recalled for this prompt whose plan used it.

What is recalled is data: `trust` says where it came from, and it grants nothing. What is not covered:
synonyms (no dense vectors yet), success statistics, and facts about the user.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, JsonValue

from .distiller import scrub, tool_words
from .embedder import terms
from .records import RUN, TOOL, Record, Scope, Trust, record_id
from .relevance import Weight, containment, likeness, weights
from .store import Memory

RUN_FLOOR: Final = 0.4
TOOL_FLOOR: Final = 0.32

_CANDIDATES: Final = 64


class RecalledRun(BaseModel):
    """A past run. `score` is 1.0 for the same prompt; `cost` in US dollars, None when it was not known."""

    model_config = ConfigDict(frozen=True)

    run: str
    prompt: str
    outcome: str
    answer_summary: str
    plan: tuple[dict[str, JsonValue], ...]
    """The subtasks: id, title, kind, role, tools, depends_on, state, seconds, cost."""
    revisions: int
    calls: int
    cost: float | None
    seconds: float
    score: float
    lesson: str
    created: datetime
    trust: Trust


class RecalledTool(BaseModel):
    """A built tool; `score` from the floor to 1.0."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    purpose: str
    signature: str
    score: float
    trust: Trust


class Recalled(BaseModel):
    """Runs and tools, each best first; both empty when nothing alike is remembered."""

    model_config = ConfigDict(frozen=True)

    runs: tuple[RecalledRun, ...] = ()
    tools: tuple[RecalledTool, ...] = ()


def recall(memory: Memory, prompt: str, *, scope: Scope, max_runs: int = 3, max_tools: int = 8) -> Recalled:
    """What is remembered that may help with this prompt. Raises what the store raises.

    Runs come with the same prompt first, then the most alike; of equals the completed before others and
    the newer before the older. A prompt that was run often shows once per outcome.
    """
    asked = scrub(prompt)
    with memory.opened() as turn:
        runs = _alike_runs(turn, asked, scope)
        tools = _fitting_tools(turn, asked, scope, runs)
    return Recalled(runs=tuple(runs[:max_runs]), tools=tuple(tools[:max_tools]))


def _alike_runs(memory: Memory, asked: str, scope: Scope) -> list[RecalledRun]:
    records = [hit.record for hit in memory.search(asked, kinds=RUN, scope=scope, limit=_CANDIDATES)]
    said = [terms(record.text) for record in records]
    weight, wanted = weights(said), terms(asked)
    scored = [(likeness(wanted, words, weight), record) for words, record in zip(said, records, strict=True)]
    runs = [_run(record, score) for score, record in scored if score >= RUN_FLOOR]
    runs.sort(key=lambda run: _merit(run, asked), reverse=True)
    first: dict[tuple[str, str], RecalledRun] = {}
    for run in runs:
        first.setdefault((_plain(run.prompt), run.outcome), run)
    return list(first.values())


def _fitting_tools(
    memory: Memory, asked: str, scope: Scope, runs: Iterable[RecalledRun]
) -> list[RecalledTool]:
    served = _tools_used(runs)
    found = [hit.record for hit in memory.search(asked, kinds=TOOL, scope=scope, limit=_CANDIDATES)]
    known = {record.id for record in found}
    # A tool may be recorded for the project or for the user; a name without a record was not built.
    named = (record_id(owner, TOOL, name) for name in served for owner in {scope, Scope(user=scope.user)})
    missing = [id_ for id_ in named if id_ not in known]
    records = found + (memory.get(missing, scope) if missing else [])

    weight = weights(_own_terms(record) for record in records)
    wanted = terms(asked)
    best: dict[str, RecalledTool] = {}
    for record in sorted(records, key=lambda record: record.created):
        score = max(_fit(record, wanted, weight), served.get(record.key, 0.0))
        if score >= TOOL_FLOOR:
            best[record.key] = _tool(record, score)
    return sorted(best.values(), key=lambda tool: (-tool.score, tool.name))


def _tools_used(runs: Iterable[RecalledRun]) -> dict[str, float]:
    """The tools in the plans of completed runs, each with the score of the most alike one."""
    used: dict[str, float] = {}
    for run in runs:
        if not _completed(run):
            continue
        for subtask in run.plan:
            names = subtask.get("tools")
            for name in names if isinstance(names, list) else []:
                used[str(name)] = max(run.score, used.get(str(name), 0.0))
    return used


def _fit(record: Record, wanted: frozenset[int], weight: Weight) -> float:
    prompts = record.data.get("prompts")
    earlier = [terms(str(prompt)) for prompt in prompts] if isinstance(prompts, list) else []
    by_prompts = max((likeness(wanted, words, weight) for words in earlier), default=0.0)
    return max(containment(wanted, _own_terms(record), weight), by_prompts)


def _own_terms(record: Record) -> frozenset[int]:
    return terms(tool_words(record.key, str(record.data.get("purpose", ""))))


def _merit(run: RecalledRun, asked: str) -> tuple[float, bool, bool, datetime]:
    return (run.score, _plain(run.prompt) == _plain(asked), _completed(run), run.created)


def _plain(prompt: str) -> str:
    return " ".join(prompt.casefold().split())


def _completed(run: RecalledRun) -> bool:
    return run.outcome == "completed"


def _run(record: Record, score: float) -> RecalledRun:
    data: Mapping[str, Any] = record.data
    return RecalledRun(
        run=record.key,
        prompt=record.text,
        outcome=data["outcome"],
        answer_summary=data["answer_summary"],
        plan=tuple(data["plan"]),
        revisions=data["revisions"],
        calls=data["calls"],
        cost=data["cost"],
        seconds=data["seconds"],
        lesson=data["lesson"],
        score=score,
        created=record.created,
        trust=record.trust,
    )


def _tool(record: Record, score: float) -> RecalledTool:
    data: Mapping[str, Any] = record.data
    return RecalledTool(
        name=record.key,
        version=data["version"],
        purpose=data["purpose"],
        signature=data["signature"],
        score=score,
        trust=record.trust,
    )
