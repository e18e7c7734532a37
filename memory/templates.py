"""A plan that did well, with the parameters of its prompt replaced by those of another one. Pure.

    form("Count the rows of sales.csv").key == form("count the rows of  orders.csv").key

A prompt's form is the prompt without its parameters: addresses, quoted texts, dates, names of files and
numbers. Two prompts of one form ask for the same with other things. `filled` puts the parameters of the
second into the plan of the first where it is certain what belongs where, and says why not where it is not:

- a parameter that changed has to stand in the work itself (instruction, inputs, check, judge, result), and
  nothing that was made from the old one may be left anywhere: a part of its name, its number as a word;
- two that were the same have to be the same again;
- a number that the shape of the plan may follow from (so many subtasks, so many items) is not exchanged, nor
  any number or date while the plan has numbers of its own, because they may have been worked out from it;
- an expression is only given names and numbers, and no text becomes a reference.

A plan that is the answer itself, or that names files which the prompt does not, is no template.

What is not covered: parameters that are ordinary words ("Berlin"), which belong to the form, so that such
prompts are of different forms; numbers in words of other languages than English; what an instruction takes
from a parameter without using its words.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import JsonValue

Kind = Literal["url", "text", "date", "file", "number"]

WORDS_ENOUGH = 3
"""So many words have to be left in a form: what is all parameters says nothing of what is wanted."""
MAX_CHARS = 40_000
"""The largest plan that is kept as a template, as JSON."""

_PARAMETER = re.compile(
    r"""
      (?P<url>\bhttps?://[^\s<>"'`]*[^\s<>"'`.,;:!?)\]])
    | "(?P<double>[^"\n]+)" | “(?P<curly>[^”\n]+)” | „(?P<low>[^“”\n]+)[“”] | «(?P<angle>[^»\n]+)»
    | `(?P<tick>[^`\n]+)` | (?<!\w)'(?P<single>[^'\n]+)'(?!\w)
    | (?P<date>(?<![\w.])(?:\d{4}-\d{2}-\d{2}|\d{1,2}[./]\d{1,2}[./]\d{4})(?![\w-]))
    | (?P<file>(?<![\w/~.-])[~.]{0,2}/?(?:[\w-][\w.-]*/)*[\w-][\w.-]*\.[A-Za-z][A-Za-z0-9]{0,7}(?![\w/])
        |(?<![\w/~.-])[~.]{0,2}/?(?:[\w-][\w.-]*/)+[\w-]*)
    | (?P<number>(?<![\w.])[-+]?\d+(?:[.,]\d+)*(?:\s?%)?(?!\w))
    """,
    re.VERBOSE,
)
_KINDS: dict[str, Kind] = {"url": "url", "date": "date", "file": "file", "number": "number"}
_MARK = "\x1f"
_GAP = "\x1e"

_DROPPED = {"why", "version", "routes", "new_tools"}
_REWRITTEN = {"title", "instruction", "inputs", "check", "judge", "result"}
_WORK = _REWRITTEN - {"title"}
_TOKEN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_]+")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?!\w)")
_SAFE = re.compile(r"[^'\"\\{}\n]+\Z")
_NUMBER_WORDS = (
    ("zero",), ("one", "single", "first", "once"), ("two", "both", "second", "twice", "pair"),
    ("three", "third"), ("four", "fourth"), ("five", "fifth"), ("six", "sixth"), ("seven", "seventh"),
    ("eight", "eighth"), ("nine", "ninth"), ("ten", "tenth"), ("eleven",), ("twelve", "dozen"),
)  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    kind: Kind
    value: str


@dataclass(frozen=True)
class Form:
    key: str
    """The same for prompts that differ in their parameters alone."""
    parameters: tuple[Parameter, ...]
    words: frozenset[str]
    """The words that all prompts of the form have."""

    @property
    def telling(self) -> bool:
        return len(self.words) >= WORDS_ENOUGH


@dataclass(frozen=True)
class Swap:
    """A parameter and what stands in its place."""

    old: str
    new: str


@dataclass(frozen=True)
class Template:
    """The plan of a run, as JSON, and the names of the files it needs."""

    plan: dict[str, JsonValue]
    files: tuple[str, ...] = ()
    swaps: tuple[Swap, ...] = ()
    """What was changed in it since it was kept."""


@dataclass(frozen=True)
class Unmapped:
    """Why the plan of one prompt cannot be made that of another."""

    reason: str


@dataclass
class _Walk:
    """What is collected while a plan is rewritten."""

    used: set[str] = field(default_factory=set)
    texts: list[str] = field(default_factory=list)
    numbers: set[str] = field(default_factory=set)


def form(prompt: str) -> Form:
    """What a prompt asks for, and with what."""
    parameters, parts, end = [], [], 0
    for match in _PARAMETER.finditer(prompt):
        group = match.lastgroup or ""
        kind, value = _KINDS.get(group, "text"), match[group]
        parts += [_plain(prompt[end : match.start()]), f"{_MARK}{kind}{_suffix(kind, value)}{_MARK}"]
        parameters.append(Parameter(kind, value))
        end = match.end()
    parts.append(_plain(prompt[end:]).rstrip(" .!?"))
    words = (word for part in parts if not part.startswith(_MARK) for word in _tokens(part))
    return Form(" ".join(filter(None, parts)), tuple(parameters), frozenset(words))


def shape(plan: Iterable[Mapping[str, JsonValue]]) -> str:
    """The same for plans of the same kinds of subtasks in the same order, whatever they are called."""
    rows = list(plan)
    places = {str(row.get("id")): n for n, row in enumerate(rows)}
    told = [
        [row.get("kind"), row.get("role"), row.get("tools") or [], _places(row.get("depends_on"), places)]
        for row in rows
    ]
    return json.dumps(told, sort_keys=True)


def mark(plan: Mapping[str, JsonValue], prompt: str) -> str:
    """The same for plans that do the same work in the same words, each with the parameters of its prompt."""
    values = list(dict.fromkeys(parameter.value for parameter in form(prompt).parameters))
    swap = _swapping({value: f"{_MARK}{n}{_MARK}" for n, value in enumerate(values)})
    work = [{name: row[name] for name in sorted(_WORK & row.keys())} for row in _rows(plan)]
    text = json.dumps([work, shape(_rows(plan))], ensure_ascii=False, sort_keys=True)
    told = swap(text)[0] if values else text
    return hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:16]


def template_of(plan: Mapping[str, JsonValue], prompt: str, files: Iterable[str]) -> Template | None:
    """The plan of a prompt as one that can be used again; None where it is none.

    `files` are those that there were when it was planned.
    """
    kept = _kept(plan)
    rows = _rows(kept)
    if not rows or any(row.get("kind") == "answer" for row in rows) or not form(prompt).telling:
        return None
    text = json.dumps(kept, ensure_ascii=False)
    if len(text) > MAX_CHARS:
        return None
    named = [name for name in _with_folders(files) if _names(text, name)]
    if any(not _names(prompt, name) for name in named):
        return None
    needed = sorted({*named, *(name for name in _with_folders(files) if _names(prompt, name))})
    return Template(kept, tuple(needed))


def filled(template: Template, earlier: str, prompt: str) -> Template | Unmapped:
    """The template of `earlier` for `prompt`."""
    was, now = form(earlier), form(prompt)
    if was.key != now.key:
        return Unmapped("the request has another form")
    pairs = list(zip(was.parameters, now.parameters, strict=True))
    found: dict[str, str] = {}
    for old, new in pairs:
        if found.setdefault(old.value, new.value) != new.value:
            return Unmapped(f"{old.value!r} stood for two things that differ now")
    changed = {old: new for old, new in found.items() if old != new}
    if not changed:
        return Template(template.plan, template.files)
    if wrong := next((new for new in changed.values() if new.startswith("$")), None):
        return Unmapped(f"{wrong!r} would be read as a reference")
    counted = [old.value for old, new in pairs if old.kind in ("number", "date") and old.value in changed]
    return _filled(template, changed, counted, was, earlier)


def _filled(
    template: Template, changed: Mapping[str, str], counted: Sequence[str], was: Form, earlier: str
) -> Template | Unmapped:
    counts = _counts(template.plan)
    if shaped := next((old for old in counted if old in counts), None):
        return Unmapped(f"the shape of the plan may follow from {shaped}")
    walk = _Walk()
    try:
        plan = _rewritten(template.plan, _swapping(changed), walk)
    except ValueError as exc:
        return Unmapped(str(exc))
    if unused := next((old for old in changed if old not in walk.used), None):
        return Unmapped(f"nothing in the plan tells where {unused!r} belongs")
    if left := _left(changed, was, walk.texts):
        return Unmapped(left)
    own = walk.numbers - {"0", "1"} - set(_NUMBER.findall(earlier))
    if counted and own:
        return Unmapped(f"{min(own)} in the plan may have been worked out from {counted[0]}")
    swap = _swapping(changed)
    files = tuple(swap(name)[0].replace(_GAP, "") for name in template.files)
    return Template(plan, files, tuple(Swap(old, new) for old, new in changed.items()))


# --- forms


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _suffix(kind: Kind, value: str) -> str:
    """Of files the ending: a table is not worked on as a picture is."""
    return "." + value.rpartition(".")[2].casefold() if kind == "file" and "." in value else ""


def _tokens(text: str) -> list[str]:
    return [token.casefold() for token in _TOKEN.findall(text)]


def _places(names: JsonValue, places: Mapping[str, int]) -> list[int]:
    return sorted(places.get(str(name), -1) for name in names) if isinstance(names, list) else []


# --- templates


def _kept(plan: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """What is used again; the reasons were those of the earlier run."""
    kept = {key: value for key, value in plan.items() if key not in _DROPPED}
    kept["subtasks"] = [{key: value for key, value in row.items() if key != "why"} for row in _rows(plan)]
    return kept


def _rows(plan: Mapping[str, JsonValue]) -> list[dict[str, Any]]:
    found = plan.get("subtasks")
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _with_folders(files: Iterable[str]) -> list[str]:
    names = list(files)
    parts = (name.split("/")[:-1] for name in names)
    return [*names, *sorted({"/".join(folders[: n + 1]) for folders in parts for n in range(len(folders))})]


def _names(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w/.-]){re.escape(name)}(?![\w-]|\.\w)", text) is not None


def _swapping(changed: Mapping[str, str]) -> Callable[[str], tuple[str, set[str]]]:
    """Replaces in one pass, so that nothing new is taken for something old; a gap marks what was put in."""
    longest = sorted(changed, key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<![\w]){re.escape(old)}(?!\w|\.\w)" for old in longest))

    def swap(text: str) -> tuple[str, set[str]]:
        found = set(pattern.findall(text))
        return pattern.sub(lambda match: f"{_GAP}{changed[match[0]]}{_GAP}", text), found

    return swap


def _rewritten(
    plan: Mapping[str, Any], swap: Callable[[str], tuple[str, set[str]]], walk: _Walk
) -> dict[str, Any]:
    goal, _ = swap(str(plan.get("goal", "")))
    walk.texts.append(goal)
    made = {**plan, "goal": goal.replace(_GAP, "")}
    if plan.get("check") is not None:
        made["check"] = _value(plan["check"], swap, walk, "check")
    made["subtasks"] = [_row(row, swap, walk) for row in _rows(plan)]
    return made


def _row(row: Mapping[str, Any], swap: Callable[[str], tuple[str, set[str]]], walk: _Walk) -> dict[str, Any]:
    made = {}
    for name, value in row.items():
        if name in _REWRITTEN:
            made[name] = _value(value, swap, walk, name)
        else:
            made[name] = value
            # What is said in these is not rewritten, and may not depend on what changed.
            walk.texts += [str(value)] if name in ("timeout_s", "retries") else _strings(value)
    return made


def _value(value: Any, swap: Callable[[str], tuple[str, set[str]]], walk: _Walk, name: str) -> Any:
    if isinstance(value, str):
        return _text(value, swap, walk, name)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return _number(value, swap, walk, name)
    if isinstance(value, list):
        return [_value(item, swap, walk, name) for item in value]
    walk.texts += list(value)
    return {key: _value(item, swap, walk, name) for key, item in value.items()}


def _text(text: str, swap: Callable[[str], tuple[str, set[str]]], walk: _Walk, name: str) -> str:
    made, found = swap(text)
    walk.texts.append(made)
    if name in _WORK:
        walk.used |= found
        walk.numbers |= set(_NUMBER.findall(_without_new(made)))
    if name == "check" and any(not _SAFE.match(new) for new in made.split(_GAP)[1::2]):
        raise ValueError("a check is only given names and numbers")
    return made.replace(_GAP, "")


def _number(value: float, swap: Callable[[str], tuple[str, set[str]]], walk: _Walk, name: str) -> int | float:
    made, found = swap(str(value))
    if not found:
        walk.numbers.add(str(value))
        return value
    new = made.replace(_GAP, "")
    if name != "inputs" or not re.fullmatch(r"-?\d+(\.\d+)?", new):
        raise ValueError(f"{value} in {name} may be what the request says, or not")
    walk.used |= found
    return float(new) if "." in new else int(new)


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [*value, *(text for item in value.values() for text in _strings(item))]
    return [text for item in value for text in _strings(item)] if isinstance(value, list | tuple) else []


def _without_new(text: str) -> str:
    return " ".join(text.split(_GAP)[0::2])


def _left(changed: Mapping[str, str], was: Form, texts: Iterable[str]) -> str:
    """What the plan still has of a parameter that changed; empty where nothing is left."""
    said = Counter(token for text in texts for token in _tokens(_without_new(text)))
    for old, new in changed.items():
        for part in _parts(old) - _parts(new) - was.words:
            if found := next((token for token in said if token.startswith(part)), None):
                return f"{found!r} in the plan may come from {old!r}"
    return ""


def _parts(value: str) -> set[str]:
    """The words of a parameter that would tell of it elsewhere."""
    parts = {token for token in _tokens(value) if token.isdigit() or len(token) > 2 or not token.isascii()}
    if value.isdigit() and int(value) < len(_NUMBER_WORDS):
        parts |= set(_NUMBER_WORDS[int(value)])
    return parts


def _counts(plan: Mapping[str, Any]) -> Collection[str]:
    """How many there are of anything that is listed in a plan."""
    rows = _rows(plan)
    sorts = Counter((str(row.get("kind")), str(row.get("role")), str(row.get("tools"))) for row in rows)
    counts = {len(rows), *sorts.values(), *_lengths(rows)}
    return {str(count) for count in counts}


def _lengths(value: Any) -> Iterator[int]:
    if isinstance(value, list | tuple):
        yield len(value)
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _lengths(item)
