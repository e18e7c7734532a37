"""What memory brings before planning: runs whose prompt was alike, and built tools that may serve.

BM25 brings candidates; what counts as alike is judged anew on a scale that means the same for every
prompt (see `relevance`), with a floor below which nothing is recalled. The floors were set on the pairs in
tests/memory/test_memory_recall.py, where alike prompts lay at 0.43 and above and unlike ones at 0.35 and
below, with three debatable ones between. Of 16 pairs written afterwards 15 were found, and none of the 480
unlike combinations of their prompts rose above 0.28.

Of the runs that are alike a few come back: those worth most (how alike, times how sure what they show is,
see `learning`), within a budget of tokens, and then the most alike first. Each says what it is good for: an
example, a hint, or a warning. Plans that can be used again for this very prompt come apart, surest first.
Runs whose words may be the web's are only counted, until the user has called them good. What was learned of
the user since the last run of a plan began is for a planner to weigh (`Reusable.unknown`).

A tool is found by its name and purpose, by requests it was recorded with, and by the completed runs
recalled for this prompt whose plan used it. Above `TOOL_FLOOR` it serves, as far as words can tell. That is
rare, because a request seldom says what a tool says of itself; so up to `FEW_TOOLS` of what has a telling
word in common come as well, the best of the search first: a line each in the planner's request, and a planner
can tell better. What shares only the words of all requests is not told. Whoever wants no guesses asks
`serves`.

What is recalled is data: `trust` says where it came from, and it grants nothing. What is not covered:
prompts that say the same in other words, because how near dense vectors have to lie differs from model to
model; and facts about the user.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, JsonValue

from memory.distiller import scrub, tool_words
from memory.embedder import DenseVector, similarity, terms
from memory.facts import is_quoted
from memory.learning import (
    PROMPT_CHARS,
    RECALL_TOKENS,
    Pool,
    Standing,
    Use,
    Vote,
    merit,
    pool_of,
    reusable,
    standings,
    template_in,
    tokens,
    use_of,
    verdict_of,
    vote_of,
    why_of,
    withheld,
)
from memory.profile import RecalledFact
from memory.ranking import DENSE, joined, nearness, scaled
from memory.records import RUN, TOOL, Hit, Record, Scope, Trust, record_id
from memory.store import Memory, Query
from memory.templates import Template, filled, form
from orchestrator_cli.durable.similarity import Similarity

RUN_FLOOR = 0.4
TOOL_FLOOR = 0.32
"""From here on a tool is taken to serve."""
RELATED_FLOOR = 0.1
"""From here on it has something to do with the prompt."""
FEW_TOOLS = 5
"""So many are told of, where fewer serve."""

_CANDIDATES = 64


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
    use: Use = "example"
    """What it shows: how it can be done, how it was done with trouble, or how it failed."""
    merit: float = 0.0
    """How alike it is, times how sure what it shows is."""
    vote: Vote | None = None
    """What the user said of it, and `why`."""
    why: str = ""
    reason: str = ""
    """Why it failed."""

    @property
    def is_warning(self) -> bool:
        return self.use == "warning"

    @property
    def shown(self) -> str:
        """The prompt, of which a planner needs no more than the beginning."""
        return self.prompt if len(self.prompt) <= PROMPT_CHARS else f"{self.prompt[:PROMPT_CHARS]}…"


class Reusable(BaseModel):
    """The plan of an earlier run that has done well, with the parameters of this prompt."""

    model_config = ConfigDict(frozen=True)

    run: str
    prompt: str
    plan: dict[str, JsonValue] = {}
    """As the planner's JSON; empty where it could not be filled."""
    files: tuple[str, ...] = ()
    """What has to be in the workspace."""
    swaps: tuple[tuple[str, str], ...] = ()
    """Parameters that changed: the old one and the new."""
    unmapped: str = ""
    """Why it could not be filled."""
    success: float
    """The lower bound of its rate of success."""
    runs: int
    """So many runs speak for it."""
    began: datetime
    """When the last run of this very plan began."""
    prompts: tuple[str, ...]
    """The requests of its runs."""

    def unknown(self, facts: Iterable[RecalledFact]) -> RecalledFact | None:
        """The first of the facts that nobody knew when the plan was used last.

        What the user said in the request of one of its runs was known to that run, though it was only learned
        at the end of the session.
        """
        newer = (fact for fact in facts if max(fact.since, fact.known) > self.began)
        return next((fact for fact in newer if not is_quoted(fact.quote, self.prompts)), None)


class RecalledTool(BaseModel):
    """A built tool; `score` is how much of what it says the prompt says, from `RELATED_FLOOR` to 1.0."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    purpose: str
    signature: str
    score: float
    trust: Trust

    @property
    def serves(self) -> bool:
        """Whether it is likely to be what is wanted, and not only something near it."""
        return self.score >= TOOL_FLOOR


class Recalled(BaseModel):
    """Runs and tools, each best first; both empty when nothing alike is remembered."""

    model_config = ConfigDict(frozen=True)

    runs: tuple[RecalledRun, ...] = ()
    tools: tuple[RecalledTool, ...] = ()
    known: tuple[RecalledFact, ...] = ()
    """About the user; see `profile`, which is asked apart."""
    plans: tuple[Reusable, ...] = ()
    withheld: tuple[str, ...] = ()
    """Runs that were alike and are not told of, because their words may be the web's."""

    @property
    def facts(self) -> tuple[str, ...]:
        """What is known about the user, each with its day."""
        return tuple(fact.line for fact in self.known)


def recall(
    memory: Memory,
    prompt: str,
    *,
    scope: Scope,
    max_runs: int = 3,
    max_tools: int = 8,
    now: datetime | None = None,
    near: DenseVector | None = None,
) -> Recalled:
    """What is remembered that may help with this prompt. Raises what the store raises.

    Runs come with the same prompt first, then the most alike; of equals the examples before others and
    the newer before the older. A prompt that was run often shows once per use. What lies near the prompt as a
    dense vector is looked at too, and has to be as alike as the rest; of tools the nearer come first.
    """
    asked = scrub(prompt)
    with memory.opened() as turn:
        alike = _alike_runs(turn, asked, scope, near)
        told = [(score, record) for score, record in alike if not withheld(record)]
        standing = standings((record for _, record in told), now or datetime.now(UTC))
        runs = _best_once([_run(record, score, standing) for score, record in told], asked)
        tools = _fitting_tools(turn, asked, scope, runs, near)
    return Recalled(
        runs=_within_budget(runs[:max_runs]),
        tools=tuple(tools[:max_tools]),
        # Where something was scrubbed, a plan that was kept cannot be what is wanted.
        plans=_plans((record for _, record in told), standing, prompt) if asked == prompt else (),
        withheld=tuple(record.key for _, record in alike if withheld(record)),
    )


def _candidates(
    memory: Memory, asked: str, kind: str, scope: Scope, near: DenseVector | None
) -> tuple[list[Hit], dict[UUID, float]]:
    """What shares words with what is asked or lies near it, and how near."""
    query = Query(asked, kinds=kind, scope=scope, limit=_CANDIDATES)
    hits = memory.search(query)
    close = memory.search(replace(query, what=near)) if near else []
    return joined(hits, close), scaled(nearness(close))


def _alike_runs(
    memory: Memory, asked: str, scope: Scope, near: DenseVector | None
) -> list[tuple[float, Record]]:
    hits, _ = _candidates(memory, asked, RUN, scope, near)
    records = [hit.record for hit in hits]
    said = [terms(record.text) for record in records]
    similar, wanted = similarity(said), terms(asked)
    scored = [(similar.cosine(wanted, words), record) for words, record in zip(said, records, strict=True)]
    key = form(asked).key
    # Prompts of one form are alike, however much their parameters say.
    return [(score, record) for score, record in scored if score >= RUN_FLOOR or form(record.text).key == key]


def _best_once(runs: list[RecalledRun], asked: str) -> list[RecalledRun]:
    """Of each prompt and use the best run, those worth most first."""
    runs.sort(key=lambda run: _merit(run, asked), reverse=True)
    first: dict[tuple[str, str], RecalledRun] = {}
    for run in runs:
        first.setdefault((_plain(run.prompt), run.use), run)
    return list(first.values())


def _within_budget(runs: list[RecalledRun]) -> tuple[RecalledRun, ...]:
    """As many as may be told, most alike first; the one that is worth most always."""
    kept: list[RecalledRun] = []
    left = RECALL_TOKENS
    for run in runs:
        left -= _told_tokens(run)
        if left < 0 and kept:
            break
        kept.append(run)
    return tuple(sorted(kept, key=lambda run: -run.score))


def _told_tokens(run: RecalledRun) -> int:
    plan = (f"{row.get('id')} {row.get('title')} {row.get('tools')} {row.get('role')}" for row in run.plan)
    return tokens("\n".join([run.shown, run.lesson, run.reason, run.why, *plan]))


def _plans(records: Iterable[Record], standing: Mapping[Pool, Standing], prompt: str) -> tuple[Reusable, ...]:
    wanted, found = form(prompt), {}
    if not wanted.telling:
        return ()
    runs: dict[Pool, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.created, reverse=True):
        runs.setdefault(pool_of(record), []).append(record)
    for pool, members in runs.items():
        if pool[0] != wanted.key:
            continue
        for record in members:
            kept = template_in(record.data)
            if kept is not None and reusable(record, standing[pool]):
                found[pool] = _reusable(record, kept, members, standing[pool], prompt)
                break
    return tuple(sorted(found.values(), key=lambda plan: -plan.success))


def _began(run: Record) -> datetime:
    """A record is written when its run ends, and what was learned meanwhile came too late for its plan."""
    seconds = run.data.get("seconds")
    return run.created - timedelta(seconds=seconds if isinstance(seconds, int | float) else 0)


def _reusable(
    record: Record, kept: Template, runs: Sequence[Record], standing: Standing, prompt: str
) -> Reusable:
    made = filled(kept, record.text, prompt)
    base = Reusable(
        run=record.key,
        prompt=record.text,
        success=standing.success,
        runs=standing.runs,
        began=max(map(_began, runs)),
        prompts=tuple(run.text for run in runs),
    )
    if not isinstance(made, Template):
        return base.model_copy(update={"unmapped": made.reason})
    swaps = tuple((swap.old, swap.new) for swap in made.swaps)
    return base.model_copy(update={"plan": made.plan, "files": made.files, "swaps": swaps})


def _fitting_tools(
    memory: Memory, asked: str, scope: Scope, runs: Iterable[RecalledRun], near: DenseVector | None
) -> list[RecalledTool]:
    served = _tools_used(runs)
    hits, close = _candidates(memory, asked, TOOL, scope, near)
    found = scaled({hit.record.id: hit.score for hit in hits})
    # A tool may be recorded for the project or for the user; a name without a record was not built.
    named = (record_id(owner, TOOL, name) for name in served for owner in {scope, Scope(user=scope.user)})
    missing = [id_ for id_ in named if id_ not in found]
    records = [hit.record for hit in hits] + (memory.get(missing, scope) if missing else [])

    similar = similarity(_own_terms(record) for record in records)
    wanted = terms(asked)
    ranked: dict[str, tuple[float, RecalledTool]] = {}
    for record in sorted(records, key=lambda record: record.created):
        used = served.get(record.key, 0.0)
        score = max(_fit(record, wanted, similar), used)
        if score >= RELATED_FLOOR:
            # The search tells tools apart better than the score does, which says whether any is good.
            rank = max(found.get(record.id, 0.0), used) + score / 2 + DENSE * close.get(record.id, 0.0)
            ranked[record.key] = rank, _tool(record, score)
    tools = [tool for _, tool in sorted(ranked.values(), key=lambda one: (-one[0], one[1].name))]
    return [tool for number, tool in enumerate(tools) if tool.serves or number < FEW_TOOLS]


def _tools_used(runs: Iterable[RecalledRun]) -> dict[str, float]:
    """The tools in the plans of completed runs, each with the score of the most alike one."""
    used: dict[str, float] = {}
    for run in runs:
        if not _completed(run) or run.use == "warning":
            continue
        for subtask in run.plan:
            names = subtask.get("tools")
            for name in names if isinstance(names, list) else []:
                used[str(name)] = max(run.score, used.get(str(name), 0.0))
    return used


def _fit(record: Record, wanted: frozenset[int], similar: Similarity[int]) -> float:
    prompts = record.data.get("prompts")
    earlier = [terms(str(prompt)) for prompt in prompts] if isinstance(prompts, list) else []
    # Requests that have only the words of all requests in common say nothing, unless they are the same.
    telling = (words for words in earlier if words == wanted or similar.containment(wanted, words))
    by_prompts = max((similar.cosine(wanted, words) for words in telling), default=0.0)
    return max(similar.containment(wanted, _own_terms(record)), by_prompts)


def _own_terms(record: Record) -> frozenset[int]:
    return terms(tool_words(record.key, str(record.data.get("purpose", ""))))


def _merit(run: RecalledRun, asked: str) -> tuple[float, bool, bool, datetime]:
    return (run.merit, _plain(run.prompt) == _plain(asked), run.use == "example", run.created)


def _plain(prompt: str) -> str:
    return " ".join(prompt.casefold().split())


def _completed(run: RecalledRun) -> bool:
    return run.outcome == "completed"


def _run(record: Record, score: float, standing: Mapping[Pool, Standing]) -> RecalledRun:
    data: Mapping[str, Any] = record.data
    verdict = verdict_of(data)
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
        use=use_of(verdict),
        merit=merit(score, verdict, standing[pool_of(record)]),
        vote=vote_of(data),
        why=why_of(data),
        reason=str(data.get("reason") or ""),
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
