"""Extracts facts about the user from what they said, each with the quote that supports it. Pure.

    texts = [own_words(prompt) for prompt in prompts]
    extracted = read_facts(reply, texts)    # proposed by a model and checked, or
    extracted = facts_by_rule(texts)        # found without a model
    learn(memory, extracted.facts, scope=scope, now=now)    # see `profile`

A model only proposes. A proposed fact counts if its quote occurs verbatim (except for white space) in the
user's own words, and if fact and quote share a significant word. Answers, results, files, pages and recalled
memories are never searched for facts, and neither is what the user pasted (code, quotations, long material).

What is not covered: whether a quote really supports the fact; pasted text without a sign of it; rules for
languages other than English, which need a model.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from memory.distiller import REMOVED, scrub
from memory.embedder import terms
from memory.ends import without_end
from orchestrator_cli.durable.json_text import json_from_reply

Subject = Literal["user", "project"]
Nature = Literal["profile", "passing"]

MAX_FACTS = 12
"""The most facts from one session."""

_MIN_QUOTE_CHARS = 8
_LONG = 4_000
_MIN_NOTE_CHARS = 8

_FENCE = re.compile(r"(```|~~~).*?(\1|\Z)", re.DOTALL)
_QUOTED_LINE = re.compile(r"^[^\S\n]*+>.*$", re.MULTILINE)
_QUOTATION = re.compile(r"\"[^\"\n]{12,}\"|“[^“”]{12,}”|„[^„“]{12,}“|«[^«»]{12,}»")


class UserFact(BaseModel):
    """A statement about the user, or about the project they work on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    subject: Subject = "user"
    attribute: Annotated[str, Field(min_length=1, max_length=80)]
    """The topic, as a key: `name`, `units`, `code_style`."""
    text: Annotated[str, Field(min_length=3, max_length=400)]
    quote: Annotated[str, Field(min_length=1, max_length=1_000)]
    """The user's own words."""
    nature: Nature = "profile"
    """A `profile` fact holds until it is contradicted; a `passing` one fades unless it is used."""

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
        return folded(value)


@dataclass(frozen=True)
class ExtractedFacts:
    facts: tuple[UserFact, ...] = ()
    dropped: tuple[str, ...] = ()
    """Why other proposals were dropped, a message for each."""


def own_words(prompt: str) -> str:
    """The prompt without code, quotations and secrets; of a long prompt only the first and last paragraph."""
    text = _QUOTATION.sub(" … ", _QUOTED_LINE.sub("", _FENCE.sub("\n", prompt)))
    if len(text) > _LONG:
        parts = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
        text = "\n\n".join(part for part in {0: parts[0], 1: parts[-1]}.values() if len(part) <= _LONG)
    return scrub(text)


def is_quoted(quote: str, texts: Iterable[str]) -> bool:
    """Whether the quote occurs in one of the texts, ignoring white space, and is long enough to be
    telling."""
    wanted = folded(quote)
    if len(wanted) < _MIN_QUOTE_CHARS and wanted.isascii():
        return False
    return bool(wanted) and any(wanted in folded(text) for text in texts)


FACTS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"facts": {"type": "array", "items": UserFact.model_json_schema()}},
    "required": ["facts"],
}
"""The JSON Schema of the reply that `read_facts` reads."""


def read_facts(reply: str, texts: Sequence[str]) -> ExtractedFacts:
    """The facts in a model's reply that the texts support. Raises `ValueError` if the reply has no list of
    facts."""
    listed = json_from_reply(reply, ("facts",)).get("facts")
    if not isinstance(listed, list):
        raise ValueError('the reply holds no object with a list "facts"')
    facts: dict[tuple[str, str], UserFact] = {}
    dropped: list[str] = []
    for row in listed[:MAX_FACTS]:
        try:
            fact = _checked(row, texts)
        except ValueError as exc:
            dropped.append(str(exc))
            continue
        facts[fact.subject, fact.attribute] = fact
    return ExtractedFacts(tuple(facts.values()), tuple(dropped))


def _checked(row: object, texts: Sequence[str]) -> UserFact:
    try:
        fact = UserFact.model_validate(row)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'a fact'}: {first['msg']}") from exc
    if not is_quoted(fact.quote, texts):
        raise ValueError(f"{fact.text!r}: the user did not say the quote")
    if not terms(fact.text) & terms(fact.quote):
        raise ValueError(f"{fact.text!r}: it shares no word with its quote")
    if REMOVED in fact.text or scrub(fact.text) != fact.text:
        raise ValueError("the fact contains a secret")
    return fact


# --- without a model

_KEEP = re.compile(
    r"(?ix)^(?:(?:please|also|and|ok(?:ay)?)[,:]?\s+)*"
    r"(?:(?:remember|note|keep\ in\ mind|bear\ in\ mind|do\ not\ forget|don't\ forget|for\ the\ record)"
    r"(?:[,:]?\s+that\b|:)|remember\s+(?=my\b|our\b))[,:]?\s*"
)
_ASKS = re.compile(
    r"(?i)\b(remember|note that|keep in mind|don't forget|from now on|in (?:the )?future|merk dir|merke dir|"
    r"ab jetzt|in zukunft|souviens|retiens|désormais|recuerda|ricorda|lembra)\b"
)
# "Note that the first row is a header" is about the present request.
_ABOUT_INPUT = re.compile(
    r"(?i)\b(files?|folders?|rows?|columns?|lines?|headers?|input|output|above|below|following|attached|"
    r"this|these|those|here|it|they|them|\w+\.[a-z]{1,4})\b"
)
_PROJECT = re.compile(
    r"(?i)\b(?:in|for|of) (?:this|the|our) (?:project|repo(?:sitory)?|workspace|code ?base)\b"
)
_TOPIC = re.compile(
    r"(?i)^(?:the|our|my|his|her|their) (?P<what>[\w' -]{2,40}?) "
    r"(?P<verb>is|are|was|were|has|have|uses?|will|must)\b(?P<rest>.*)"
)
_LANGUAGES = """
    arabic bengali bulgarian catalan chinese croatian czech danish dutch english estonian finnish french
    german greek hebrew hindi hungarian icelandic indonesian irish italian japanese korean latin latvian
    lithuanian mandarin norwegian persian polish portuguese romanian russian serbian slovak slovenian spanish
    swedish thai turkish ukrainian urdu vietnamese welsh
"""
_FROM_NOW_ON = re.compile(r"(?i),? (?:from now on|in (?:the )?future|by default|please|always)$")
_SPEAK = re.compile(r"(?i)^(?:answer|reply|respond|write|speak|talk)(?: to me| me)? in (?P<language>\w+)$")
_MANNER = re.compile(
    r"(?ix)^(?:(?:no|avoid|skip|stop\ using|do\ not\ use|don't\ use|never\ use|without)|use|prefer)\ "
    r"(?:[\w-]+\ ){0,3}?(?P<topic>units|spelling|dates?|date\ formats?|time\ formats?|notation|currency|"
    r"decimal\ (?:points|commas)|indentation|naming|quotes|emojis?|emoticons|exclamation\ marks?|jargon|"
    r"bullet\ points|bullets|headings|markdown|jokes|small\ talk|apologies|passive\ voice|abbreviations|"
    r"oxford\ commas?)$"
)
_LENGTH = re.compile(
    r"(?ix)^(?:be|keep\ it|keep\ (?:your\ )?answers|answer|reply)\ "
    r"(?:very\ )?(?:brief(?:ly)?|short|concise(?:ly)?|terse(?:ly)?|in\ detail|formal(?:ly)?|informal(?:ly)?)$"
)

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
_MORE = re.compile(r"(?i)(?<!\s)\s++(?:and|but|so|since|because|now|at present|with|who|which|where)\b.*")
_OVER = re.compile(r"(?i)(?<!\s)\s++(?:over|to|rather than|instead of|than)\s+")
_UNTIL = re.compile(r"(?i)(?<!\s)\s++(?:for|in|when|whenever|if|because|with|on|at|as)\s+")
# "My question is …" is about the present request, not about the user.
_ABOUT_THE_REQUEST = """
    question problem goal task file files code idea point guess request aim issue plan program script input
    data prompt bad understanding concern answer
"""


def facts_by_rule(texts: Iterable[str]) -> ExtractedFacts:
    """Facts from plain statements: "I prefer", "always", "my … is", "call me", what the user asks to
    remember, and orders about how to work, such as "use metric units". The last one for each attribute."""
    facts: dict[str, UserFact] = {}
    for text in texts:
        for statement in map(folded, _STATEMENT.split(text)):
            if not statement or statement.endswith("?") or len(statement) > 300 or REMOVED in statement:
                continue
            fact = _fact_in(statement)
            if fact is not None and is_quoted(fact.quote, [text]):
                facts[fact.attribute] = fact
    return ExtractedFacts(tuple(facts.values())[-MAX_FACTS:])


def _fact_in(statement: str) -> UserFact | None:
    kept = _KEEP.match(statement)
    bare = without_end(statement[kept.end() :] if kept else statement)
    while (shorter := _POLITE.sub("", bare)) != bare:
        bare = shorter
    found = _plain_fact(bare, statement)
    if found is None and kept and len(bare) > _MIN_NOTE_CHARS:
        found = _note(bare, statement)
    return found and found.model_copy(
        update={"nature": "passing"} if without_end(statement) != statement else {}
    )


def _plain_fact(bare: str, statement: str) -> UserFact | None:
    if match := _CALL_ME.match(bare):
        name = match["name"].strip()
        return UserFact(attribute="name", text=f"The user wants to be called {name}.", quote=statement)
    if match := _LIVE.match(bare):
        return _home_or_work(match, statement)
    if manner := _manner(bare, statement):
        return manner
    if _HERE.search(bare):
        return None
    if match := _PREFER.search(bare):
        what = match["what"].strip(". ")
        return _preference(what, statement) if what else None
    if match := _RULE.match(bare):
        if match["when"].casefold() == "always" and (manner := _manner(match["rule"], statement)):
            return manner
        # The first words of a rule, so that "never use tabs" contradicts "always use tabs".
        topic = " ".join(re.findall(r"\w+", match["rule"].casefold())[:4])
        text = f"The user's rule: {bare.rstrip('.! ')}."
        return UserFact(attribute=f"rule {topic}", text=text, quote=statement)
    if match := _MY_IS.match(bare):
        what, value = match["what"].strip().casefold(), match["value"].rstrip(". ")
        if what.split()[-1] in _ABOUT_THE_REQUEST.split():
            return None
        return UserFact(attribute=what, text=f"The user's {what} is {value}.", quote=statement)
    return None


def _manner(bare: str, statement: str) -> UserFact | None:
    """An order about how to work or to answer, rather than about what to do."""
    order = _FROM_NOW_ON.sub("", bare.rstrip(".! "))
    if (match := _SPEAK.match(order)) and match["language"].casefold() in _LANGUAGES.split():
        about = "language"
    elif match := _MANNER.match(order):
        # As in "I prefer metric units", whose topic is its last word.
        about = f"prefers {match['topic'].split()[-1]}"
    elif _LENGTH.match(order):
        about = "length and tone of answers"
    else:
        return None
    return UserFact(attribute=about, text=f"The user's rule: {order}.", quote=statement)


def _note(bare: str, statement: str) -> UserFact | None:
    """Something that the user asks to remember, as they say it."""
    of_project = _PROJECT.search(bare)
    if _ABOUT_INPUT.search(_PROJECT.sub("", bare)):
        return None
    text = f"{bare[0].upper()}{bare[1:].rstrip('.! ')}."
    about = topic_of(_PROJECT.sub("", bare).lstrip(" ,"))
    return UserFact(subject="project" if of_project else "user", attribute=about, text=text, quote=statement)


_BE = ("is", "are", "was", "were")


def asks_to_remember(texts: Iterable[str]) -> bool:
    """Whether the texts may ask to keep something in mind, or say how to work."""
    said = list(texts)
    return any(_ASKS.search(text) for text in said) or bool(facts_by_rule(said).facts)


def topic_of(statement: str) -> str:
    """What a statement is about, as an attribute: "The deadline is Friday" and "The deadline is Monday" are
    about the same. A statement of no known form is about itself only, and contradicts nothing."""
    if match := _TOPIC.match(statement):
        verb, rest = match["verb"].casefold(), match["rest"].split()
        # "The office is in Linz" does not contradict "The office is closed on Fridays".
        how = [rest[0]] if len(rest) > 1 and rest[0].isalpha() and rest[0].islower() else []
        return " ".join([match["what"].strip().casefold(), *([] if verb in _BE else [verb]), *how])
    return f"note {sha256(folded(statement).encode()).hexdigest()[:8]}"


def _home_or_work(match: re.Match[str], quote: str) -> UserFact | None:
    what, value = (match["what"] or match["based"]).casefold(), _MORE.sub("", match["value"]).rstrip(". ")
    if not value[:1].isalpha() or _HERE.search(value):
        return None
    verb = _SAYS.get(what, what.replace("work", "works"))
    return UserFact(attribute=_ABOUT[what], text=f"The user {verb} {value}.", quote=quote)


def _preference(what: str, quote: str) -> UserFact:
    sides = [_UNTIL.split(side)[0].strip() for side in _OVER.split(what)]
    # "tabs over spaces" and "spaces over tabs" have the same topic; so have two kinds of units.
    topic = " ".join(sorted(side.casefold() for side in sides)) if len(sides) > 1 else sides[0].split()[-1]
    return UserFact(attribute=f"prefers {topic}"[:80], text=f"The user prefers {what}.", quote=quote)


def folded(text: str) -> str:
    """The text with all white space as single spaces."""
    return " ".join(text.split())
