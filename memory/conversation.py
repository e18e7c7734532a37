"""Conversations: what was asked and answered in one session, kept as turns, and made short for a planner.

    keep(memory, "march", exchange, scope)      # two turns and the session, repeating it changes nothing
    exchanges = said(memory, "march", scope)    # oldest first
    short = compact(exchanges, budget=3000)     # the newest whole, those before in short

A session is known by its name within a scope; another project's session of that name is another one. Turns
are kept as they were said, without a model. To compact asks none either: of an older exchange there remain
its first sentence, what was decided, the first sentence of the answer and the files.

Two processes may go on with one session: `keep` takes the next place within one turn of the store, and each
process sees what the other has added when it reads anew.

What is not covered: secrets, which the caller scrubs; what was said in other sessions, which is never mixed
in; on a server, two processes that take the same place at once, whose turns then stand side by side.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from memory.records import SESSION, TURN, Record, Scope, Source, record_id
from memory.store import Memory, by_place
from memory.turns import turn_record
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


class Exchange(BaseModel):
    """One prompt and its answer."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run: str
    prompt: str
    answer: str
    files: tuple[str, ...] = ()
    """What was made or changed."""
    plan: tuple[str, ...] = ()
    """The graph that it led to, a line for each subtask."""
    own: bool = False
    """Whether the model knew the answer itself; else it tells what tools, files or the web have said."""
    said: datetime = Field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Session:
    name: str
    title: str
    """The beginning of its first prompt."""
    exchanges: int
    begun: datetime
    latest: datetime


@dataclass(frozen=True)
class Compact:
    """A conversation within a budget."""

    earlier: str = ""
    """What the older exchanges came to, a line for each; empty where all are whole."""
    exchanges: tuple[Exchange, ...] = ()
    """The newest, oldest first."""


def is_name(text: str) -> bool:
    """Whether a session can be called that: letters, digits, `_`, `-` and `.`, at most 80."""
    return _NAME.fullmatch(text) is not None


def keep(memory: Memory, session: str, exchange: Exchange, scope: Scope) -> None:
    """Add an exchange to its session, or replace what was kept of the same run. Raises as the store does."""
    with memory.opened() as turn:
        known = next(iter(turn.get([record_id(scope, SESSION, session)], scope)), None)
        mine = record_id(scope, TURN, _key(exchange, USER))
        there = next(iter(turn.get([mine], scope)), None)
        exchanges = _count(known)
        seq = there.seq if there is not None and there.seq is not None else 2 * exchanges
        total = exchanges if there is not None else exchanges + 1
        title = str(known.data["title"]) if known is not None else _short(exchange.prompt, _TITLE_CHARS)
        begun = known.created if known is not None else exchange.said
        about = Record(
            kind=SESSION,
            key=session,
            text=title,
            data={"title": title, "exchanges": total},
            scope=scope,
            created=begun,
            last_used=exchange.said,
            uses=total,
            session=session,
        )
        turn.add([about, *_turns(session, seq, exchange, scope)])


def said(memory: Memory, session: str, scope: Scope) -> list[Exchange]:
    """The exchanges of a session, oldest first; none where there is no such session."""
    records = by_place(r for r in memory.all(TURN, scope, session=session) if r.scope == scope)
    answers = {r.data.get("run"): r for r in records if r.data.get("speaker") == ORCH}
    asked = [r for r in records if r.data.get("speaker") == USER]
    return [_exchange(record, answers.get(record.data.get("run"))) for record in asked]


def sessions(memory: Memory, scope: Scope) -> list[Session]:
    """The sessions of exactly this scope, the one that was gone on with last first."""
    found = [_session(record) for record in memory.all(SESSION, scope) if record.scope == scope]
    return sorted(found, key=lambda session: (session.latest, session.name), reverse=True)


def compact(exchanges: Sequence[Exchange], budget: int) -> Compact:
    """The conversation in at most about `budget` tokens, taken as four characters each.

    All are whole where they fit. Else three quarters of it are for the newest, of which the very last is
    always there, without its middle where it is too long; the rest is for what the older ones came to.
    """
    room = 4 * budget
    if sum(map(_length, exchanges)) <= room:
        return Compact(exchanges=tuple(exchanges))
    left = int(_WHOLE_SHARE * room)
    whole: list[Exchange] = []
    for exchange in reversed(exchanges):
        if whole and _length(exchange) > left:
            break
        whole.insert(0, exchange if whole else _fitted(exchange, left))
        left -= _length(whole[0])
    older = exchanges[: len(exchanges) - len(whole)]
    return Compact(_digest(older, room - int(_WHOLE_SHARE * room)), tuple(whole))


# --- to and from records


def _turns(session: str, seq: int, exchange: Exchange, scope: Scope) -> list[Record]:
    asked = turn_record(
        session=session,
        seq=seq,
        speaker=USER,
        text=exchange.prompt,
        said=exchange.said,
        scope=scope,
        source=Source(type="user", ref=exchange.run),
    )
    answered = turn_record(
        session=session,
        seq=seq + 1,
        speaker=ORCH,
        text=exchange.answer,
        said=exchange.said,
        scope=scope,
        source=Source(type="model" if exchange.own else "tool", ref=exchange.run),
    )
    more = {"files": list(exchange.files), "plan": list(exchange.plan)}
    return [
        # By the run and not by the place: a run that is gone on with says again what it has said.
        asked.model_copy(update={"key": _key(exchange, USER), "data": {**asked.data, "run": exchange.run}}),
        answered.model_copy(
            update={"key": _key(exchange, ORCH), "data": {**answered.data, "run": exchange.run, **more}}
        ),
    ]


def _key(exchange: Exchange, speaker: str) -> str:
    return f"{exchange.run}/{speaker}"


def _exchange(asked: Record, answered: Record | None) -> Exchange:
    data: dict[str, Any] = answered.data if answered is not None else {}
    return Exchange(
        run=str(asked.data.get("run", "")),
        prompt=str(asked.data.get("text", "")),
        answer=str(data.get("text", "")),
        files=tuple(data.get("files", ())),
        plan=tuple(data.get("plan", ())),
        own=answered is not None and answered.trusted,
        said=asked.created,
    )


def _session(record: Record) -> Session:
    return Session(
        name=record.key,
        title=str(record.data.get("title", "")),
        exchanges=_count(record),
        begun=record.created,
        latest=record.last_used or record.created,
    )


def _count(record: Record | None) -> int:
    found = record.data.get("exchanges") if record is not None else 0
    return found if isinstance(found, int) else 0


# --- making short


def _length(exchange: Exchange) -> int:
    return len(exchange.prompt) + len(exchange.answer)


def _fitted(exchange: Exchange, room: int) -> Exchange:
    """The exchange without the middle of what is too long in it."""
    if _length(exchange) <= room:
        return exchange
    asked = _without_middle(exchange.prompt, max(room // 2, room - len(exchange.answer)))
    answer = _without_middle(exchange.answer, room - len(asked))
    return exchange.model_copy(update={"prompt": asked, "answer": answer})


def _without_middle(text: str, room: int) -> str:
    if len(text) <= room:
        return text
    gap = f" … ({len(text)} characters) … "
    kept = max(room - len(gap), 0)
    head = 3 * kept // 4
    return f"{text[:head]}{gap}{text[len(text) - (kept - head) :]}"


def _digest(exchanges: Sequence[Exchange], room: int) -> str:
    """A line for each, oldest first; the oldest are left out where there are too many, and that is said."""
    lines: list[str] = []
    for number, exchange in enumerate(reversed(exchanges)):
        line = digest_line(exchange)
        room -= len(line) + 1
        if room < 0:
            lines.append(f"- ({len(exchanges) - number} before these are left out)")
            break
        lines.append(line)
    return "\n".join(reversed(lines))


def digest_line(exchange: Exchange) -> str:
    """What remains of an older exchange."""
    asked = [part for part in _sentences(exchange.prompt) if part]
    decided = [part for part in asked[1:] if _DECISION.search(part)][:_DECISIONS]
    answer = next(iter(_sentences(exchange.answer)), "")
    wanted = " ".join(_short(part, _SENTENCE_CHARS) for part in (*asked[:1], *decided))
    files = ", ".join(exchange.files[:_FILES])
    came = f" → {_short(answer, _SENTENCE_CHARS)}" if answer else ""
    return f"- {wanted}{came}{f' [files: {files}]' if files else ''}"


def _sentences(text: str) -> Iterable[str]:
    return [" ".join(part.split()) for part in _SENTENCE.split(text) if part and part.strip()]


def _short(text: str, most: int) -> str:
    return truncate(" ".join(text.split()), most, rstrip=True)
