"""What earlier conversations and runs said that may help with a request: who said it, when, and where.

    found = recall_findings(memory, prompt, scope=scope, session="march", besides=runs_shown, budget=300)
    lines = [finding.line for finding in found.shown]

An exchange is a prompt with its answer: from a session, or from a run without one. Of each only the sentences
that concern the request are shown, from the prompt, the answer or both. An exchange concerns a request if
they share two telling words or one name, or if it is near by a vector of a model whose floors are known.
Words that describe work rather than its subject ("count", "rows") do not tell, so "Count the rows" is shown
nothing. Of several exchanges with the same prompt only the newest is returned.

An answer is shown if the run's record says that it completed, read nothing that others wrote, and was not
called bad or undone. Otherwise only the user's own words are shown; the answer is withheld, until the user
calls the run good. Records of other workspaces and imported ones are left out.

Everything returned is data: it may be out of date, and it grants nothing.

What is not covered: whether an answer is still true; answers of runs that were kept before records said what
a run had read.
"""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any, Protocol
from uuid import UUID

from memory.embedder import DenseVector, common_terms, sequence, terms
from memory.learning import learnable, tokens, use_of, verdict_of, vote_of, withheld
from memory.records import RUN, TURN, Hit, Record, Scope, record_id
from memory.retrieval import retrieve
from memory.sessions import ORCH, USER, day_of, message_key
from memory.store import Memory, Query
from memory.visibility import search_visible, workspace_of
from orchestrator_cli.durable.text import truncate

MEMORY_TOKENS = 600
"""Tokens of a planner's request that facts and findings may take together, with their headings."""
AGENT_TOKENS = 200
"""Tokens of an agent's task that those which concern it may take, with their heading."""
HEADING_TOKENS = 70
"""What one heading and its marks take."""

_FLOOR = 0.25
_NAME_FLOOR = 0.12
"""If what is shared is a name, which tells more than a common word."""
_CANDIDATES = 24
_PIECE_CHARS = 200
_MOST_PIECES = 40
_PIECE = re.compile(r"(?<=[.!?;])\s+|(?<=[。！？])|\n+")
_WORD = re.compile(r"\w+(?:[_.-]\w+)*")
# What is done, and to what kind of thing: nearly every request says it, whatever it is about.
_WORK = """
    count row column line number total sum sort filter table list page folder document csv json pdf markdown
    add remove delete change update check compare convert copy move rename read open fetch download send run
    start stop tool test code script python function program project request task work thing word sentence
    value item entry part first last next new old many much most more less same other different whole
    today tomorrow yesterday week month year day time date now here there please thank well good bad
    say tell ask call know think remember note answer question reply user rule prefer session
"""


@dataclass(frozen=True)
class PastExchange:
    """Sentences of one exchange that concern a request."""

    id: UUID
    """Of the record that matched."""
    run: str
    session: str
    """Empty if the exchange belongs to none."""
    time: datetime
    text: str
    """What was said, and what was answered."""
    has_answer: bool
    score: float
    """How much it has to do with the request: 1 for the same words or the same meaning."""
    shares: tuple[str, ...] = ()
    """Words of the request that it has; empty if it was found by meaning."""

    @property
    def source(self) -> str:
        return f"session {self.session}" if self.session else f"run {self.run}"

    @property
    def origin(self) -> str:
        """Its day and source."""
        return f"{day_of(self.time)}, {self.source}"

    @property
    def line(self) -> str:
        return f"{self.text} ({self.origin})"


@dataclass(frozen=True)
class RecalledExchanges:
    shown: tuple[PastExchange, ...] = ()
    """Best first."""
    withheld: tuple[str, ...] = ()
    """Runs whose answers would be shown if they had read nothing that others wrote."""


class MemoryLine(Protocol):
    """A fact or a finding."""

    @property
    def text(self) -> str: ...
    @property
    def line(self) -> str:
        """The text with its day and source."""
        ...


@dataclass(frozen=True)
class SentenceWords:
    """The telling words of a sentence that others are compared with."""

    words: frozenset[int]
    names: frozenset[int]
    is_question: bool

    @classmethod
    def of(cls, sentence: str) -> "SentenceWords":
        names = " ".join(_names(sentence))
        return cls(telling(sentence), telling(names), sentence.endswith("?"))

    def closeness(self, words: frozenset[int]) -> tuple[float, frozenset[int]]:
        """How much a text of these words has to do with the sentence, from 0 to 1, and what they share."""
        shared = self.words & words
        if not shared:
            return 0.0, shared
        score = len(shared) / math.sqrt(len(self.words) * len(words))
        is_asked = self.is_question and shared == self.words
        if (len(shared) > 1 or is_asked) and score >= _FLOOR:
            return score, shared
        return (score, shared) if shared & self.names and score >= _NAME_FLOOR else (0.0, frozenset())


@dataclass(frozen=True)
class RequestWords:
    """A request as it is compared with what is remembered: as a whole, and sentence by sentence."""

    parts: tuple[SentenceWords, ...]
    spelled: Mapping[int, str]
    """Its words as they are written, by their term."""

    @classmethod
    def of(cls, text: str) -> "RequestWords":
        spelled: dict[int, str] = {}
        for word in _WORD.findall(text):
            for term in sequence(word):
                spelled.setdefault(term, word)
        sentences = islice(_pieces(text), _MOST_PIECES)
        return cls(tuple(map(SentenceWords.of, dict.fromkeys([" ".join(text.split()), *sentences]))), spelled)

    def closeness(self, text: str) -> tuple[float, frozenset[int]]:
        """As `SentenceWords.closeness`, of the part that is closest."""
        words = telling(text)
        return max((part.closeness(words) for part in self.parts), key=lambda one: one[0])

    def spell(self, shared: Iterable[int]) -> tuple[str, ...]:
        return tuple(sorted({self.spelled[term] for term in shared if term in self.spelled}))


def telling(text: str) -> frozenset[int]:
    """The words of a text that say what it is about."""
    return terms(text) - _common()


def _names(sentence: str) -> Iterator[str]:
    """Words with a capital that do not begin the sentence, and those with a digit or a sign within."""
    for number, word in enumerate(_WORD.findall(sentence)):
        if (number and word[0].isupper()) or not word.isalpha():
            yield word


@dataclass(frozen=True)
class _FoundExchange:
    ids: tuple[UUID, ...]
    """Of the record that was found, and of its messages."""
    run: str
    session: str
    time: datetime
    prompt: str
    answer: str
    cosine: float = 0.0


def recall_findings(
    memory: Memory,
    prompt: str,
    *,
    scope: Scope,
    session: str = "",
    besides: Collection[str] = (),
    budget: int = MEMORY_TOKENS,
    near: DenseVector | None = None,
) -> RecalledExchanges:
    """The findings for a request within `budget` tokens. Raises what the store raises.

    Args:
        scope: the workspace, or the user for those of all workspaces.
        session: the request's own, whose messages are shown as its conversation.
        besides: runs that are shown in another way.
        near: the prompt as a dense vector.
    """
    asked = RequestWords.of(prompt)
    with memory.opened() as turn:
        exchanges = list(_exchanges(turn, prompt, scope, near, session, besides))
        keys = [record_id(scope.user_wide, RUN, one.run) for one in exchanges]
        runs = {record.key: record for record in turn.get(keys, scope)}
    floor = near.floors.serves if near is not None and near.floors is not None else None
    found: list[PastExchange] = []
    kept_back: list[str] = []
    for one in exchanges:
        may_answer = _may_be_shown(runs.get(one.run))
        finding = _finding(one, asked, floor, with_answer=True)
        if finding is not None and finding.has_answer and not may_answer:
            kept_back.append(one.run)
            finding = _finding(one, asked, floor, with_answer=False)
        if finding is not None:
            found.append(finding)
    return RecalledExchanges(tuple(_within(found, budget)), tuple(dict.fromkeys(kept_back)))


def concerning(rows: Iterable[MemoryLine], text: str, budget: int = AGENT_TOKENS) -> tuple[str, ...]:
    """The lines of what concerns a text, closest first, within `budget` tokens, heading included."""
    asked = RequestWords.of(text)
    close = [(asked.closeness(row.text)[0], row.line) for row in rows]
    kept: list[str] = []
    left = budget - HEADING_TOKENS
    for score, line in sorted(close, key=lambda one: -one[0]):
        if score > 0 and (cost := line_cost(line)) <= left:
            kept.append(line)
            left -= cost
    return tuple(kept)


def line_cost(line: str) -> int:
    """The tokens of a line in a list."""
    return tokens(f"- {line}\n")


def _within(found: Iterable[PastExchange], budget: int) -> Iterator[PastExchange]:
    seen: set[str] = set()
    left = budget - HEADING_TOKENS
    newest = sorted(found, key=lambda one: one.time, reverse=True)
    for finding in sorted(newest, key=lambda one: -one.score):
        cost = line_cost(finding.line)
        if cost <= left and finding.text not in seen:
            yield finding
            seen.add(finding.text)
            left -= cost


# --- exchanges


def _exchanges(
    memory: Memory,
    prompt: str,
    scope: Scope,
    near: DenseVector | None,
    session: str,
    besides: Collection[str],
) -> Iterator[_FoundExchange]:
    """The candidates, the newest of those with the same prompt, without what is shown in another way."""
    messages = [
        hit
        for hit in retrieve(memory, prompt, kinds=TURN, scope=scope, limit=_CANDIDATES, near=near)
        if hit.record.is_own
    ]
    runs = search_visible(memory, Query(prompt, kinds=RUN, scope=scope, limit=_CANDIDATES))
    nearest: list[Hit] = []
    if near is not None:
        for kind in (TURN, RUN):
            nearest += search_visible(memory, Query(near, kinds=kind, scope=scope, limit=_CANDIDATES))
    cosines = {hit.record.id: hit.score for hit in nearest}
    answers = [
        record
        for record in {hit.record.id: hit.record for hit in (*runs, *nearest)}.values()
        if record.kind == RUN and record.is_own
    ]
    whole = _whole([hit.record for hit in messages] + answers, _messages(memory, messages, answers, scope))
    seen: set[str] = set(besides)
    prompts: set[str] = set()
    for one in sorted(whole, key=lambda one: one.time, reverse=True):
        same = " ".join(one.prompt.casefold().split())
        if one.run not in seen and same not in prompts and not (session and one.session == session):
            yield replace(one, cosine=max((cosines.get(id_, 0.0) for id_ in one.ids), default=0.0))
        seen.add(one.run)
        prompts.add(same)


def _messages(
    memory: Memory, hits: Iterable[Hit], answers: Iterable[Record], scope: Scope
) -> dict[tuple[str, str], Record]:
    """What was said in the sessions of these records, by run and speaker."""
    runs = {
        **{run_of(hit.record): hit.record.scope for hit in hits},
        **{run.key: Scope(user=scope.user, project=workspace_of(run) or None) for run in answers},
    }
    both = [(run, where, who) for run, where in runs.items() for who in (USER, ORCH)]
    ids = [record_id(where, TURN, message_key(run, who)) for run, where, who in both]
    found = (record for record in memory.get(ids, scope) if record.is_own)
    return {(run_of(record), str(record.data.get("speaker"))): record for record in found}


def run_of(record: Record) -> str:
    """The run in which a message was said."""
    return str(record.data.get("run", ""))


def _whole(records: Iterable[Record], said: Mapping[tuple[str, str], Record]) -> Iterator[_FoundExchange]:
    """The exchanges of records; those of sessions from their messages."""
    for record in records:
        run = record.key if record.kind == RUN else run_of(record)
        both = [said[run, who] for who in (USER, ORCH) if (run, who) in said]
        texts = {str(one.data.get("speaker")): str(one.data.get("text", "")) for one in both}
        if record.kind == RUN and not both:
            texts = {USER: record.text, ORCH: str(record.data.get("answer_summary") or "")}
        yield _FoundExchange(
            ids=(record.id, *(one.id for one in both)),
            run=run,
            session=both[0].session or "" if both else "",
            time=record.created,
            prompt=texts.get(USER, ""),
            answer=texts.get(ORCH, ""),
        )


def _may_be_shown(run: Record | None) -> bool:
    """Whether the answer of a run may be shown to a planner."""
    if run is None or (known := learnable(run)) is None or not known.is_own:
        return False
    data: Mapping[str, Any] = known.data
    if data.get("outcome") != "completed" or data.get("undone") or use_of(verdict_of(data)) == "warning":
        return False
    if vote_of(data) == "good":
        return True
    return data.get("outside") is False and not withheld(known)


def _finding(
    one: _FoundExchange, asked: RequestWords, floor: float | None, *, with_answer: bool
) -> PastExchange | None:
    """What of an exchange concerns the request; None if nothing does."""
    said, of_said, shared_by_said = _closest(one.prompt, asked)
    answered, of_answer, shared_by_answer = _closest(one.answer if with_answer else "", asked)
    shared = shared_by_said | shared_by_answer
    by_words = max(of_said, of_answer)
    by_meaning = one.cosine if floor is not None and one.cosine >= floor else 0.0
    if not (by_words or by_meaning):
        return None
    is_question = said.endswith("?") or one.prompt.strip().endswith("?")
    if not (with_answer and one.answer) and (is_question or not by_words):
        return None
    text = f"the user said: {said}"
    if with_answer and answered:
        text += f" The answer was: {answered}"
    return PastExchange(
        id=one.ids[0],
        run=one.run,
        session=one.session,
        time=one.time,
        text=text,
        has_answer=bool(with_answer and answered),
        score=round(max(by_words, by_meaning), 2),
        shares=asked.spell(shared) if by_words else (),
    )


def _closest(text: str, asked: RequestWords) -> tuple[str, float, frozenset[int]]:
    """The sentence of a text that is closest to the request, else its first one."""
    pieces = [truncate(piece, _PIECE_CHARS, rstrip=True) for piece in islice(_pieces(text), _MOST_PIECES)]
    if not pieces:
        return "", 0.0, frozenset()
    scored = [(*asked.closeness(piece), piece) for piece in pieces]
    score, shared, best = max(scored, key=lambda one: one[0])
    return best, score, shared


def _pieces(text: str) -> Iterator[str]:
    """The sentences of a text."""
    return (piece for part in _PIECE.split(text) if part and (piece := " ".join(part.split())))


@cache
def _common() -> frozenset[int]:
    return common_terms() | terms(_WORK)
