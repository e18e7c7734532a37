"""Sessions: conversations kept as messages, and shortened for a planner.

    save_exchange(memory, "march", exchange, scope)     # two messages and the session; repeating it is
    harmless exchanges = load_exchanges(memory, "march", scope)  # oldest first
    short = compact(exchanges, budget=3000)             # the newest in full, older ones summarised

A session is identified by its name within a scope; two projects can have sessions of the same name. Messages
are kept verbatim. No model is asked, not even by `compact`: of an older exchange it keeps the first sentence
of the prompt, decisions, the first sentence of the answer and the files.

A message (a record of kind `turn`) is searched with its day and speaker before its words: "When did Ada
move?" then finds what Ada said, and "in May" what was said in May.

Two processes can continue the same session: `save_exchange` takes the next positions within one turn of the
store, and each process sees the other's messages when it loads the session again.

What is not covered: secrets, which the caller scrubs; other sessions, which are never mixed in; on a server,
two processes that take the same positions at once, whose messages then share them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from memory.records import SESSION, TURN, Record, Scope, Source, Trust, record_id
from memory.store import Memory, by_position
from orchestrator_cli.durable.text import truncate

USER = "user"
ORCH = "orch"

_NAME = re.compile(r"\w[\w.-]{0,79}")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
_DECISION = re.compile(
    r"(?i)\b(always|never|from now on|instead|must|only|use|prefer|don't|do not|let's|decided?|call it)\b"
)
_TITLE_CHARS = 100
_SENTENCE_CHARS = 160
_DECISIONS = 3
_FILES = 8
_WHOLE_SHARE = 0.75
_MOST_EXCHANGES = 10**6


class Exchange(BaseModel):
    """One prompt and its answer."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run: str
    prompt: str
    answer: str
    files: tuple[str, ...] = ()
    """The files that were created or changed."""
    plan: tuple[str, ...] = ()
    """The plan of the run, a line for each subtask."""
    own: bool = False
    """Whether the model knew the answer itself; otherwise it repeats what tools, files or the web said."""
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class SessionSummary:
    name: str
    title: str
    """The beginning of its first prompt."""
    exchanges: int
    """How many there are."""
    begun: datetime
    latest: datetime


@dataclass(frozen=True)
class Compact:
    """A conversation within a budget."""

    earlier: str = ""
    """A summary of the older exchanges, a line for each; empty if all are kept in full."""
    exchanges: tuple[Exchange, ...] = ()
    """The newest exchanges in full, oldest first."""


def is_session_name(text: str) -> bool:
    """Whether the text is a valid name: at most 80 letters, digits, `_`, `-` and `.`."""
    return _NAME.fullmatch(text) is not None


def save_exchange(memory: Memory, session: str, exchange: Exchange, scope: Scope) -> None:
    """Add an exchange to its session, or replace that of the same run. Raises what the store raises."""
    with memory.opened() as turn:
        known = next(_own(turn.get([record_id(scope, SESSION, session)], scope), scope), None)
        message = record_id(scope, TURN, message_key(exchange.run, USER))
        saved = next(_own(turn.get([message], scope), scope), None)
        exchanges = _count(known)
        seq = saved.seq if saved is not None and saved.seq is not None else 2 * exchanges
        total = exchanges if saved is not None else exchanges + 1
        title = (
            str(known.data.get("title", ""))
            if known is not None
            else _truncated(exchange.prompt, _TITLE_CHARS)
        )
        summary = Record(
            kind=SESSION,
            key=session,
            text=title,
            data={"title": title, "exchanges": total},
            scope=scope,
            created=known.created if known is not None else exchange.time,
            last_used=exchange.time,
            uses=total,
            session=session,
        )
        turn.add([summary, *_messages(session, seq, exchange, scope)])


def load_exchanges(memory: Memory, session: str, scope: Scope) -> list[Exchange]:
    """The exchanges of a session, oldest first; none if there is no such session of the user's own."""
    records = by_position(_own(memory.all(TURN, scope, session=session), scope))
    answers = {r.data.get("run"): r for r in records if r.data.get("speaker") == ORCH}
    prompts = [r for r in records if r.data.get("speaker") == USER]
    return [_exchange(record, answers.get(record.data.get("run"))) for record in prompts]


def list_sessions(memory: Memory, scope: Scope) -> list[SessionSummary]:
    """The user's own sessions of exactly this scope, most recently used first."""
    found = [
        SessionSummary(
            name=record.key,
            title=str(record.data.get("title", "")),
            exchanges=_count(record),
            begun=record.created,
            latest=record.last_used or record.created,
        )
        for record in _own(memory.all(SESSION, scope), scope)
    ]
    return sorted(found, key=lambda session: (session.latest, session.name), reverse=True)


def _own(records: Iterable[Record], scope: Scope) -> Iterator[Record]:
    """Those that continue a conversation: records of exactly this scope that others did not write."""
    return (record for record in records if record.scope == scope and record.is_own)


def compact(exchanges: Sequence[Exchange], budget: int) -> Compact:
    """The conversation in about `budget` tokens, counting four characters as one.

    If not all exchanges fit, three quarters of the budget are for the newest ones. The very last is always
    kept, without its middle if it is too long. The rest of the budget is for a summary of the older ones.
    """
    limit = 4 * budget
    if sum(map(_length, exchanges)) <= limit:
        return Compact(exchanges=tuple(exchanges))
    left = int(_WHOLE_SHARE * limit)
    whole: list[Exchange] = []
    for exchange in reversed(exchanges):
        if whole and _length(exchange) > left:
            break
        whole.insert(0, exchange if whole else _fitted(exchange, left))
        left -= _length(whole[0])
    older = exchanges[: len(exchanges) - len(whole)]
    return Compact(_summary(older, limit - int(_WHOLE_SHARE * limit)), tuple(whole))


# --- to and from records


def turn_record(
    *,
    session: str,
    seq: int,
    speaker: str,
    text: str,
    time: datetime,
    scope: Scope,
    source: Source | None = None,
    trust: Trust = "own",
    key: str = "",
    data: Mapping[str, Any] = MappingProxyType({}),
) -> Record:
    """The message of `speaker` at position `seq` of a conversation, with more `data` if given.

    By default its key is its position, so a conversation that is written twice is stored once.
    """
    return Record(
        kind=TURN,
        key=key or f"{session}/{seq}",
        text=f"[{spoken_time(time)}] {speaker}: {text}",
        data={"speaker": speaker, "text": text, **data},
        scope=scope,
        session=session,
        seq=seq,
        created=time,
        source=source,
        trust=trust,
    )


def spoken_time(time: datetime) -> str:
    """As in questions, which are compared with it: "3 May 2026 at 14:05"."""
    return f"{day_of(time)} at {time:%H:%M}"


def day_of(time: datetime) -> str:
    """As in "3 May 2026"."""
    return f"{time.day} {time:%B %Y}"


def _messages(session: str, seq: int, exchange: Exchange, scope: Scope) -> Iterator[Record]:
    plan_and_files = {"files": list(exchange.files), "plan": list(exchange.plan)}
    rows: tuple[tuple[str, str, Literal["user", "model", "tool"], dict[str, Any]], ...] = (
        (USER, exchange.prompt, "user", {}),
        (ORCH, exchange.answer, "model" if exchange.own else "tool", plan_and_files),
    )
    for step, (speaker, text, origin, data) in enumerate(rows):
        yield turn_record(
            session=session,
            seq=seq + step,
            speaker=speaker,
            text=text,
            time=exchange.time,
            scope=scope,
            source=Source(type=origin, ref=exchange.run),
            # The key is the run, not the position: a resumed run replaces its messages.
            key=message_key(exchange.run, speaker),
            data={"run": exchange.run, **data},
        )


def message_key(run: str, speaker: str) -> str:
    """The key of what a speaker said in the exchange of a run."""
    return f"{run}/{speaker}"


def _exchange(prompt: Record, answer: Record | None) -> Exchange:
    data: dict[str, Any] = answer.data if answer is not None else {}
    return Exchange(
        run=str(prompt.data.get("run", "")),
        prompt=str(prompt.data.get("text", "")),
        answer=str(data.get("text", "")),
        files=_texts(data.get("files")),
        plan=_texts(data.get("plan")),
        own=answer is not None and answer.trusted,
        time=prompt.created,
    )


def _count(record: Record | None) -> int:
    count = record.data.get("exchanges") if record is not None else 0
    return count if isinstance(count, int) and 0 <= count < _MOST_EXCHANGES else 0


def _texts(found: Any) -> tuple[str, ...]:
    return tuple(map(str, found)) if isinstance(found, list) else ()


# --- compaction


def _length(exchange: Exchange) -> int:
    return len(exchange.prompt) + len(exchange.answer)


def _fitted(exchange: Exchange, limit: int) -> Exchange:
    """The exchange in at most `limit` characters, without the middle of its long texts."""
    if _length(exchange) <= limit:
        return exchange
    prompt = _without_middle(exchange.prompt, max(limit // 2, limit - len(exchange.answer)))
    answer = _without_middle(exchange.answer, limit - len(prompt))
    return exchange.model_copy(update={"prompt": prompt, "answer": answer})


def _without_middle(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    gap = f" … ({len(text)} characters) … "
    kept = max(limit - len(gap), 0)
    head = 3 * kept // 4
    return f"{text[:head]}{gap}{text[len(text) - (kept - head) :]}"


def _summary(exchanges: Sequence[Exchange], limit: int) -> str:
    """A line for each exchange, oldest first; if there are too many, a line counts the oldest ones."""
    lines: list[str] = []
    for number, exchange in enumerate(reversed(exchanges)):
        line = summary_line(exchange)
        limit -= len(line) + 1
        if limit < 0:
            lines.append(f"- ({len(exchanges) - number} before these are left out)")
            break
        lines.append(line)
    return "\n".join(reversed(lines))


def summary_line(exchange: Exchange) -> str:
    """An older exchange in one line."""
    sentences = _sentences(exchange.prompt)
    decisions = [part for part in sentences[1:] if _DECISION.search(part)][:_DECISIONS]
    answer = next(iter(_sentences(exchange.answer)), "")
    prompt = " ".join(_truncated(part, _SENTENCE_CHARS) for part in (*sentences[:1], *decisions))
    files = ", ".join(exchange.files[:_FILES])
    result = f" → {_truncated(answer, _SENTENCE_CHARS)}" if answer else ""
    return f"- {prompt}{result}{f' [files: {files}]' if files else ''}"


def _sentences(text: str) -> list[str]:
    return [" ".join(part.split()) for part in _SENTENCE.split(text) if part and part.strip()]


def _truncated(text: str, limit: int) -> str:
    return truncate(" ".join(text.split()), limit, rstrip=True)
