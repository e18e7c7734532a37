"""Recall before planning: similar earlier runs, and built tools that may be useful.

BM25 finds candidates. Their similarity is then measured on a scale that means the same for every prompt (see
`durable.text`), and nothing below a floor is recalled. The floors were set on the pairs in
tests/memory/test_memory_recall.py, where similar prompts scored 0.43 or more and different ones 0.35 or less,
with three debatable ones in between. Of 16 pairs written afterwards 15 were found, and none of the 480
combinations of unrelated prompts scored above 0.28.

Of the similar runs, those with the greatest merit are returned (similarity times the certainty of the
verdict, see `learning`), within a budget of tokens, most similar first. Each run says what it is useful for:
an example, a hint or a warning. Plans that can be reused for this very prompt are returned separately, most
certain first. Runs that were only an answer have no plan to learn from. Runs that may repeat what the web
said are only counted, until the user calls them good. Facts learned since a plan was last used are for a
planner to consider (`ReusablePlan.unknown`).

Tools are recalled too, see `related_tools`.

Everything recalled is data: `trust` says where it came from, and it grants nothing. What is
not covered: runs whose prompts say the same in other words, because a plan for something merely near
misleads; and facts about the user (see `profile`).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

from memory.distiller import scrub
from memory.embedder import DenseVector, similarity, terms
from memory.facts import is_quoted
from memory.findings import PastExchange
from memory.learning import (
    PROMPT_CHARS,
    RECALL_TOKENS,
    Group,
    TrackRecord,
    Use,
    Vote,
    group_of,
    learnable,
    merit,
    reusable,
    teaches_nothing,
    template_in,
    tokens,
    track_records,
    use_of,
    verdict_of,
    vote_of,
    why_of,
    withheld,
)
from memory.profile import RecalledFact
from memory.records import RUN, Record, Scope, Trust
from memory.related_tools import RecalledTool, related_tools
from memory.retrieval import merge_hits, search_both
from memory.store import Memory, Query
from memory.templates import Template, Unmapped, fill_template, prompt_pattern

RUN_FLOOR = 0.4

_CANDIDATES = 64


class RecalledRun(BaseModel):
    """A past run. `score` is 1.0 for the same prompt; `cost` is in US dollars, or None if it was unknown."""

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
    """What it shows: how to do it, how it was done with difficulties, or how it failed."""
    merit: float = 0.0
    """Similarity times the certainty of the verdict."""
    vote: Vote | None = None
    """The user's vote; `why` is the user's reason."""
    why: str = ""
    reason: str = ""
    """Why the run failed."""
    wished: bool = False
    """Whether its plan has what the user asked for while it ran."""
    undone: bool = False
    """Whether the user has undone it."""

    @property
    def is_warning(self) -> bool:
        return self.use == "warning"

    @property
    def shown(self) -> str:
        """The beginning of the prompt, as shown to a planner."""
        return self.prompt if len(self.prompt) <= PROMPT_CHARS else f"{self.prompt[:PROMPT_CHARS]}…"


class ReusablePlan(BaseModel):
    """The plan of an earlier run that did well, with the parameters of this prompt."""

    model_config = ConfigDict(frozen=True)

    run: str
    prompt: str
    plan: dict[str, JsonValue] = {}
    """As the planner's JSON; empty if the parameters could not be filled in."""
    files: tuple[str, ...] = ()
    """Files that must be in the workspace."""
    swaps: tuple[tuple[str, str], ...] = ()
    """Parameters that changed: the old and the new one."""
    unmapped: str = ""
    """Why the parameters could not be filled in."""
    success: float
    """The lower bound of its rate of success."""
    runs: int
    """How many runs count for it."""
    began: datetime
    """When the last run with this very plan began."""
    prompts: tuple[str, ...]
    """The prompts of its runs."""

    def unknown(self, facts: Iterable[RecalledFact]) -> RecalledFact | None:
        """The first of the facts that were unknown when the plan was last used.

        Facts in the prompt of one of its runs were known to that run, although they were only learned at the
        end of the session.
        """
        newer = (fact for fact in facts if max(fact.since, fact.known) > self.began)
        return next((fact for fact in newer if not is_quoted(fact.quote, self.prompts)), None)


class RecallResult(BaseModel):
    """Runs and tools, each best first; both empty if nothing similar is remembered."""

    model_config = ConfigDict(frozen=True)

    runs: tuple[RecalledRun, ...] = ()
    tools: tuple[RecalledTool, ...] = ()
    known: tuple[RecalledFact, ...] = ()
    """Facts about the user; filled by the caller, see `profile.recall_facts`."""
    findings: tuple[PastExchange, ...] = ()
    """What other conversations and runs said; filled by the caller, see `findings.recall_findings`."""
    plans: tuple[ReusablePlan, ...] = ()
    withheld: tuple[str, ...] = ()
    """Similar runs that are not returned because they may repeat what the web said."""

    @property
    def facts(self) -> tuple[str, ...]:
        """The facts about the user, each with its day."""
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
) -> RecallResult:
    """What may help with this prompt. Raises what the store raises.

    Runs with the same prompt come first, then the most similar ones; among equals, examples before others and
    newer before older. Of runs with the same prompt and use only one is returned. `near`, the prompt as a
    dense vector, adds candidates, which must be as similar as the others; of tools, the nearer come first.
    """
    scrubbed = scrub(prompt)
    with memory.opened() as turn:
        similar = _similar_runs(turn, scrubbed, scope, near)
        usable = [(score, record) for score, record in similar if not withheld(record)]
        own = [record for _, record in usable if record.is_own]
        results = track_records(own, now or datetime.now(UTC))
        runs = _best_once([_run(record, score, results) for score, record in usable], scrubbed)
        tools = related_tools(turn, scrubbed, scope, _tools_used(runs), near)
    return RecallResult(
        runs=_within_budget(runs[:max_runs]),
        tools=tuple(tools[:max_tools]),
        # A stored plan has no secret, so it does not fit a prompt that contains one.
        plans=_reusable_plans(own, results, prompt) if scrubbed == prompt else (),
        withheld=tuple(record.key for _, record in similar if withheld(record)),
    )


# --- runs


def _similar_runs(
    memory: Memory, prompt: str, scope: Scope, near: DenseVector | None
) -> list[tuple[float, Record]]:
    query = Query(prompt, kinds=RUN, scope=scope, limit=_CANDIDATES)
    hits = merge_hits(*search_both(memory, query, near))
    records = [
        record
        for hit in hits
        if (record := learnable(hit.record)) is not None and not teaches_nothing(record.data)
    ]
    texts = [terms(record.text) for record in records]
    compared, wanted = similarity(texts), terms(prompt)
    key = prompt_pattern(prompt).key
    similar = []
    for record, words in zip(records, texts, strict=True):
        score = compared.cosine(wanted, words)
        # Prompts with the same pattern are similar even if their long parameters differ.
        if score >= RUN_FLOOR or prompt_pattern(record.text).key == key:
            similar.append((score, record))
    return similar


def _best_once(runs: list[RecalledRun], prompt: str) -> list[RecalledRun]:
    """The best run for each prompt and use, greatest merit first."""
    wanted = _plain(prompt)
    runs.sort(
        key=lambda run: (run.merit, _plain(run.prompt) == wanted, run.use == "example", run.created),
        reverse=True,
    )
    first: dict[tuple[str, str], RecalledRun] = {}
    for run in runs:
        first.setdefault((_plain(run.prompt), run.use), run)
    return list(first.values())


_FIRST_TOKENS = 4 * RECALL_TOKENS
"""The most for the run that fits best."""


def _within_budget(runs: list[RecalledRun]) -> tuple[RecalledRun, ...]:
    """The runs that fit the budget, most similar first.

    The first one is kept without its graph if that alone does not fit, and left out if its words do not.
    """
    kept: list[RecalledRun] = []
    left = RECALL_TOKENS
    for run in runs:
        most = left if kept else _FIRST_TOKENS
        if _cost(run) > most and not kept:
            run = run.model_copy(update={"plan": ()})  # noqa: PLW2901
        if (cost := _cost(run)) > most:
            break
        left -= cost
        kept.append(run)
    return tuple(sorted(kept, key=lambda run: -run.score))


def _cost(run: RecalledRun) -> int:
    plan = (
        f"{row.get('id')} {row.get('kind')} {row.get('title')} {row.get('tools')} {row.get('role')} "
        f"{row.get('depends_on')} {row.get('state')}"
        for row in run.plan
    )
    return tokens("\n".join([run.shown, run.outcome, run.lesson, run.reason, run.why, *plan]))


def _plain(prompt: str) -> str:
    return " ".join(prompt.casefold().split())


def _run(record: Record, score: float, results: Mapping[Group, TrackRecord]) -> RecalledRun:
    data: Mapping[str, Any] = record.data
    verdict = verdict_of(data)
    return RecalledRun(
        run=record.key,
        prompt=record.text,
        plan=tuple(data["plan"]),
        score=score,
        created=record.created,
        trust=record.trust,
        use=use_of(verdict),
        merit=merit(score, verdict, results.get(group_of(record), TrackRecord())),
        vote=vote_of(data),
        why=why_of(data),
        reason=str(data.get("reason") or ""),
        lesson=str(data.get("lesson") or ""),
        wished=bool(data.get("wished")),
        undone=bool(data.get("undone")),
        **{name: data[name] for name in _STORED},
    )


_STORED = ("outcome", "answer_summary", "revisions", "calls", "cost", "seconds")


# --- plans


def _reusable_plans(
    records: Iterable[Record], results: Mapping[Group, TrackRecord], prompt: str
) -> tuple[ReusablePlan, ...]:
    """One plan for each group of runs with the prompt's pattern, from its newest run with a reusable plan."""
    wanted, found = prompt_pattern(prompt), []
    if not wanted.telling:
        return ()
    groups: dict[Group, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.created, reverse=True):
        groups.setdefault(group_of(record), []).append(record)
    for group, members in groups.items():
        if group[0] != wanted.key:
            continue
        for record in members:
            template = template_in(record.data)
            if template is not None and reusable(record, results[group]):
                found.append(_reusable_plan(record, template, members, results[group], prompt))
                break
    return tuple(sorted(found, key=lambda plan: -plan.success))


def _reusable_plan(
    record: Record, template: Template, runs: Sequence[Record], track_record: TrackRecord, prompt: str
) -> ReusablePlan:
    plan = ReusablePlan(
        run=record.key,
        prompt=record.text,
        success=track_record.success,
        runs=track_record.runs,
        began=max(map(_start, runs)),
        prompts=tuple(run.text for run in runs),
    )
    try:
        filled = fill_template(template, record.text, prompt)
    except Unmapped as exc:
        return plan.model_copy(update={"unmapped": str(exc)})
    return plan.model_copy(update={"plan": filled.plan, "files": filled.files, "swaps": filled.swaps})


def _start(run: Record) -> datetime:
    """When a run began. Its record is written at its end; facts learned in between came too late for its
    plan."""
    seconds: Any = run.data["seconds"]
    try:
        return run.created - timedelta(seconds=seconds)
    except OverflowError:
        return run.created


# --- tools


def _tools_used(runs: Iterable[RecalledRun]) -> dict[str, float]:
    """The tools in the plans of completed runs, each with the score of the most similar run."""
    used: dict[str, float] = {}
    for run in runs:
        if run.outcome != "completed" or run.is_warning:
            continue
        for subtask in run.plan:
            names = subtask.get("tools")
            for name in names if isinstance(names, list) else []:
                used[str(name)] = max(run.score, used.get(str(name), 0.0))
    return used
