"""Facts about the user: found in what they said, each with the quote it rests on, kept until they change.

    told = [own_words(prompt) for prompt in prompts]
    found = read_facts(reply, told)             # what a model proposes, checked; or
    found = facts_by_rule(told)                 # what can be told without one
    learned = learn(memory, found.facts, now)   # contradictions end what was held before

A model only proposes. What it proposes counts where its quote occurs, letter by letter but for white space,
in the user's own words, and where the two have a telling word in common. Answers, results, files, pages and
what memory brought are never looked at, and what the user has pasted (code, quotations, long material) is not
among their words.

Of two facts about one thing, the same subject and attribute, the later holds: the earlier one is kept, with
the time until which it held. A fact says something to a model; it grants nothing.

What is not covered: whether a quote means what is made of it; what is pasted without a sign that it is; rules
for other languages than English, for which a model is needed.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from memory.distiller import REMOVED, scrub
from memory.embedder import terms
from memory.records import FACT, Record, Scope, Source
from memory.store import Memory

Subject = Literal["user", "project"]
Nature = Literal["profile", "passing"]

MOST = 12
"""Facts that one session may bring."""

_QUOTE_CHARS = 8
_SAME = 0.9
_LONG = 4_000

_FENCE = re.compile(r"(```|~~~).*?(\1|\Z)", re.DOTALL)
_QUOTED_LINE = re.compile(r"^\s*>.*$", re.MULTILINE)
_QUOTATION = re.compile(r"\"[^\"\n]{12,}\"|“[^”]{12,}”|„[^“]{12,}“|«[^»]{12,}»")
_OBJECT = re.compile(r"\{.*\}", re.DOTALL)


class Fact(BaseModel):
    """One thing that holds of the user, or of the project they work on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    subject: Subject = "user"
    attribute: Annotated[str, Field(min_length=1, max_length=80)]
    """What it is about, as a key: `name`, `units`, `code_style`."""
    text: Annotated[str, Field(min_length=3, max_length=400)]
    quote: Annotated[str, Field(min_length=1, max_length=1_000)]
    """What the user said, as they said it."""
    nature: Nature = "profile"
    """A `profile` holds until it is contradicted; what is `passing` fades unless it is used."""

    @field_validator("attribute")
    @classmethod
    def _as_key(cls, value: str) -> str:
        key = "_".join(re.findall(r"\w+", value.casefold()))
        if not key:
            raise ValueError("the attribute has no letters")
        return key[:60]

    @field_validator("text", "quote")
    @classmethod
    def _on_one_line(cls, value: str) -> str:
        return " ".join(value.split())


@dataclass(frozen=True)
class Found:
    """What was found, and why the rest was dropped."""

    facts: tuple[Fact, ...] = ()
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Learned:
    """What changed in memory."""

    new: tuple[Record, ...] = ()
    again: tuple[Record, ...] = ()
    """Known before, and said again."""
    ended: tuple[Record, ...] = ()
    """Held until now."""

    def __bool__(self) -> bool:
        return bool(self.new or self.again or self.ended)


def own_words(prompt: str) -> str:
    """What of a prompt the user says: no code, quotations and secrets, and of long material only its ends."""
    text = _QUOTATION.sub(" … ", _QUOTED_LINE.sub("", _FENCE.sub("\n", prompt)))
    if len(text) > _LONG:
        parts = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
        text = "\n\n".join(part for part in {0: parts[0], 1: parts[-1]}.values() if len(part) <= _LONG)
    return scrub(text)


def is_quoted(quote: str, told: Iterable[str]) -> bool:
    """Whether the quote stands in one of the texts, but for white space, and is long enough to tell."""
    wanted = _folded(quote)
    if len(wanted) < _QUOTE_CHARS and wanted.isascii():
        return False
    return bool(wanted) and any(wanted in _folded(text) for text in told)


def read_facts(reply: str, told: Sequence[str]) -> Found:
    """The facts of a model's reply that rest on what was told. Raises `ValueError` where it has none."""
    match = _OBJECT.search(reply)
    try:
        rows = json.loads(match[0]) if match else None
    except RecursionError as exc:
        raise ValueError("the reply holds no object that can be read") from exc
    listed = rows.get("facts") if isinstance(rows, dict) else None
    if not isinstance(listed, list):
        raise ValueError('the reply holds no object with a list "facts"')
    facts: dict[tuple[str, str], Fact] = {}
    dropped: list[str] = []
    for row in listed[:MOST]:
        try:
            fact = _checked(row, told)
        except ValueError as exc:
            dropped.append(str(exc))
            continue
        facts[fact.subject, fact.attribute] = fact
    return Found(tuple(facts.values()), tuple(dropped))


def _checked(row: object, told: Sequence[str]) -> Fact:
    try:
        fact = Fact.model_validate(row)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'a fact'}: {first['msg']}") from exc
    if not is_quoted(fact.quote, told):
        raise ValueError(f"{fact.text!r}: the quote was not said by the user")
    if not terms(fact.text) & terms(fact.quote):
        raise ValueError(f"{fact.text!r}: it has no word of its quote")
    if REMOVED in fact.text or scrub(fact.text) != fact.text:
        raise ValueError("a fact that holds a secret")
    return fact


# --- without a model

_STATEMENT = re.compile(r"(?<=[.!?;])\s+|\n+")
_HERE = re.compile(r"(?i)\b(this|these|that|those|here|it|now|today|again)\b")
_POLITE = re.compile(
    r"(?i)^(?:please|and|also|but|so|ok(?:ay)?|remember(?:\s+that)?|note(?:\s+that)?|from now on)[,:]?\s+"
)
_CALL_ME = re.compile(r"(?i)^(?:you can |just )?call me (?P<name>[^,.;!?]{1,60})")
_MY_IS = re.compile(r"(?i)^my (?P<what>[\w' -]{2,40}?) (?:is|are) (?P<value>[^;!?\n]{1,120})")
_PREFER = re.compile(
    r"(?i)\bi (?:really |strongly |usually |generally |always )?prefer (?P<what>[^;!?\n]{2,160})"
)
_RULE = re.compile(r"(?i)^(?P<when>always|never|do not ever|don't ever) (?P<rule>[^;!?\n]{3,200})")
_LIVE = re.compile(
    r"(?i)^(?:i (?:now |currently )?(?P<what>live in|work for|work as)|i(?:'m| am) (?P<based>based in))"
    r" (?P<value>[^,;!?\n]{2,80})"
)
_ABOUT = {
    **{"live in": "home", "based in": "home"},
    **{"work for": "employer", "work as": "occupation"},
}
_SAYS = {"live in": "lives in", "based in": "is based in"}
_MORE = re.compile(r"(?i)\s+(?:and|but|so|since|because|now|at present|with|who|which|where)\b.*")
_OVER = re.compile(r"(?i)\s+(?:over|to|rather than|instead of|than)\s+")
_UNTIL = re.compile(r"(?i)\s+(?:for|in|when|whenever|if|because|with|on|at|as)\s+")
# "My question is …" says what is wanted now, and nothing about who wants it.
_PASSING = {
    *(
        "question",
        "problem",
        "goal",
        "task",
        "file",
        "files",
        "code",
        "idea",
        "point",
        "guess",
        "request",
        "aim",
    ),
    *(
        "issue",
        "plan",
        "program",
        "script",
        "input",
        "data",
        "prompt",
        "bad",
        "understanding",
        "concern",
        "answer",
    ),
}


def facts_by_rule(told: Iterable[str]) -> Found:
    """What follows from "I prefer", "always", "never", "my … is", "call me"; of one thing the last said."""
    facts: dict[str, Fact] = {}
    for text in told:
        for fact in _stated(text):
            facts[fact.attribute] = fact
    return Found(tuple(facts.values())[-MOST:])


def _stated(text: str) -> Iterator[Fact]:
    for part in _STATEMENT.split(text):
        said = " ".join(part.split())
        if not said or said.endswith("?") or len(said) > 300 or REMOVED in said:
            continue
        fact = _of_statement(said)
        if fact is not None and is_quoted(fact.quote, [text]):
            yield fact


def _of_statement(said: str) -> Fact | None:
    bare = said
    while (shorter := _POLITE.sub("", bare)) != bare:
        bare = shorter
    if match := _CALL_ME.match(bare):
        name = match["name"].strip()
        return Fact(attribute="name", text=f"The user wants to be called {name}.", quote=said)
    if match := _LIVE.match(bare):
        return _of_life(match, said)
    if _HERE.search(bare):
        return None
    if match := _PREFER.search(bare):
        what = match["what"].strip(". ")
        return _preference(what, said) if what else None
    if match := _RULE.match(bare):
        rule = match["rule"].rstrip(". ")
        return Fact(
            attribute=f"rule {_head(rule)}", text=f"The user's rule: {bare.rstrip('.! ')}.", quote=said
        )
    if match := _MY_IS.match(bare):
        what, value = match["what"].strip().casefold(), match["value"].rstrip(". ")
        if what.split()[-1] in _PASSING:
            return None
        return Fact(attribute=what, text=f"The user's {what} is {value}.", quote=said)
    return None


def _of_life(match: re.Match[str], said: str) -> Fact | None:
    """Where the user lives and works: of each there is one at a time."""
    what, value = (match["what"] or match["based"]).casefold(), _MORE.sub("", match["value"]).rstrip(". ")
    if not value[:1].isalpha() or _HERE.search(value):
        return None
    says = _SAYS.get(what, what.replace("work", "works"))
    return Fact(attribute=_ABOUT[what], text=f"The user {says} {value}.", quote=said)


def _preference(what: str, said: str) -> Fact:
    sides = [_UNTIL.split(side)[0].strip() for side in _OVER.split(what)]
    # "tabs over spaces" and "spaces over tabs" are about the same thing; so are two sorts of units.
    about = " ".join(sorted(side.casefold() for side in sides)) if len(sides) > 1 else sides[0].split()[-1]
    return Fact(attribute=f"prefers {about}"[:80], text=f"The user prefers {what}.", quote=said)


def _head(rule: str) -> str:
    """The first words of a rule, so that "always use tabs" and "never use tabs" meet."""
    return " ".join(re.findall(r"\w+", rule.casefold())[:4])


# --- what memory holds of them


def fact_record(fact: Fact, *, scope: Scope, now: datetime, ref: str = "", pinned: bool = False) -> Record:
    """The fact as it is kept; `scope` is the project's, which is left off for what holds of the user."""
    return Record(
        kind=FACT,
        key=f"{fact.subject}/{fact.attribute}/{_mark(fact.text)}",
        text=fact.text,
        data={"subject": fact.subject, "attribute": fact.attribute, "nature": fact.nature},
        scope=scope if fact.subject == "project" else Scope(user=scope.user),
        created=now,
        valid_from=now,
        source=Source(type="user", ref=ref, quote=fact.quote),
        pinned=pinned,
    )


def learn(
    memory: Memory, facts: Iterable[Fact], *, scope: Scope, now: datetime, ref: str = "", pinned: bool = False
) -> Learned:
    """Keep the facts. What was known is used once more; what they contradict ends now."""
    new: dict[Any, Record] = {}
    again: dict[Any, Record] = {}
    ended: dict[Any, Record] = {}
    with memory.opened() as turn:
        held = {record.id: record for record in turn.all(FACT, scope, at=now) if record.trusted}
        for fact in facts:
            record = fact_record(fact, scope=scope, now=now, ref=ref, pinned=pinned)
            alike = [r for r in held.values() if r.scope == record.scope and _says_same(r, record)]
            if alike:
                # Said again, perhaps in other words: the words of the first time stay.
                used = alike[0].used(now)
                again[used.id] = used.model_copy(update={"pinned": used.pinned or pinned})
                continue
            for old in [r for r in held.values() if _contradicts(record, r)]:
                ended[old.id] = old.ended(now, record.id)
                del held[old.id]
            new[record.id] = held[record.id] = record
        turn.add([*ended.values(), *again.values(), *new.values()])
    return Learned(tuple(new.values()), tuple(again.values()), tuple(ended.values()))


def _says_same(one: Record, other: Record) -> bool:
    if one.id == other.id:
        return True
    first, second = terms(one.text), terms(other.text)
    if not first or not second or not _opposed_alike(one.text, other.text):
        return False
    return len(first & second) / len(first | second) >= _SAME


_AGAINST = re.compile(r"(?i)\b(not|never|no|don't|doesn't|won't|isn't|dislikes?|over|to|than)\b")


def _opposed_alike(one: str, other: str) -> bool:
    """Texts of the same words mean the same only where neither says no, and nothing is put before another."""
    return not _AGAINST.search(one) and not _AGAINST.search(other)


def _contradicts(new: Record, old: Record) -> bool:
    if new.scope != old.scope or new.id == old.id:
        return False
    return all(new.data.get(name) == old.data.get(name) for name in ("subject", "attribute"))


def _mark(text: str) -> str:
    return sha256(_folded(text).casefold().encode()).hexdigest()[:16]


def _folded(text: str) -> str:
    return " ".join(text.split())
