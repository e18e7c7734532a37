"""Adapts the plan of an earlier prompt to a similar one by exchanging the prompts' parameters. Pure.

    prompt_pattern("Count the rows of sales.csv").key == prompt_pattern("count the rows of  orders.csv").key

A prompt's pattern is the prompt without its parameters: addresses, quoted texts, dates, file names and
numbers. Two prompts with the same pattern ask for the same work on other things. `fill_template` puts the
parameters of the second prompt into the plan of the first if it is certain where they belong, and otherwise
says why not:

- a parameter that changed must occur in the work itself (instruction, inputs, check, judge, result), and no
  trace of the old one may remain anywhere: a part of its name, its number as a word;
- two parameters that were equal must be equal again;
- a number from which the structure of the plan may follow (the number of subtasks or items) is not exchanged,
  nor is any number or date if the plan has numbers of its own, which may have been computed from it;
- an expression only receives names and numbers, and no text becomes a reference.

A plan that is the answer itself, or that names files which the prompt does not, is not a template.

What is not covered: parameters that are ordinary words ("Berlin"), which belong to the pattern, so that such
prompts have different patterns; number words of languages other than English; what an instruction derives
from a parameter without using its words.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import JsonValue

Kind = Literal["url", "text", "date", "file", "number"]

MIN_WORDS = 3
"""The fewest words of a pattern that says what is wanted; parameters alone do not."""
MAX_CHARS = 40_000
"""The largest plan that is stored as a template, as JSON."""

_PARAMETER = re.compile(
    r"""
      (?P<url>\bhttps?://[^\s<>"'`]*[^\s<>"'`.,;:!?)\]])
    | "(?P<double>[^"\n]+)" | “(?P<curly>[^“”\n]+)” | „(?P<low>[^„“”\n]+)[“”] | «(?P<angle>[^«»\n]+)»
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
_SAFE = re.compile(r"\A[^'\"\\{}\n]+\Z")
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
class PromptPattern:
    key: str
    """Equal for prompts that differ only in their parameters."""
    parameters: tuple[Parameter, ...]
    words: frozenset[str]
    """The words that all prompts with the pattern share."""

    @property
    def telling(self) -> bool:
        """Whether the pattern has enough words to say what is wanted."""
        return len(self.words) >= MIN_WORDS


@dataclass(frozen=True)
class Template:
    """The plan of a run, as JSON, and the names of the files it needs."""

    plan: dict[str, JsonValue]
    files: tuple[str, ...] = ()
    swaps: tuple[tuple[str, str], ...] = ()
    """The parameters that were replaced in it, each with its replacement."""


class Unmapped(Exception):
    """A plan cannot be adapted to another prompt; the text says why."""


Swapper = Callable[[str], tuple[str, set[str]]]
"""Replaces parameters in a text; returns the new text and the old parameters that were found in it."""


@dataclass
class _Rewrite:
    """A plan being rewritten, and what is collected from it."""

    swap: Swapper
    used: set[str] = field(default_factory=set)
    """Old parameters found in the work."""
    texts: list[str] = field(default_factory=list)
    numbers: set[str] = field(default_factory=set)
    """Numbers in the work that are not new parameters."""

    def plan(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        goal, _ = self.swap(str(plan.get("goal", "")))
        self.texts.append(goal)
        result = {**plan, "goal": goal.replace(_GAP, "")}
        if plan.get("check") is not None:
            result["check"] = self._value(plan["check"], "check")
        result["subtasks"] = [self._subtask(row) for row in _rows(plan)]
        return result

    def _subtask(self, row: Mapping[str, Any]) -> dict[str, Any]:
        result = {}
        for name, value in row.items():
            if name in _REWRITTEN:
                result[name] = self._value(value, name)
            else:
                result[name] = value
                # The other fields are not rewritten, and must not depend on what changed.
                self.texts += [str(value)] if name in ("timeout_s", "retries") else _strings(value)
        return result

    def _value(self, value: Any, name: str) -> Any:
        if isinstance(value, str):
            return self._text(value, name)
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int | float):
            return self._number(value, name)
        if isinstance(value, list):
            return [self._value(item, name) for item in value]
        self.texts += list(value)
        return {key: self._value(item, name) for key, item in value.items()}

    def _text(self, text: str, name: str) -> str:
        swapped, found = self.swap(text)
        self.texts.append(swapped)
        if name in _WORK:
            self.used |= found
            self.numbers |= set(_NUMBER.findall(_without_new(swapped)))
        if name == "check" and any(not _SAFE.match(new) for new in swapped.split(_GAP)[1::2]):
            raise Unmapped("a check only receives names and numbers")
        return swapped.replace(_GAP, "")

    def _number(self, value: float, name: str) -> int | float:
        swapped, found = self.swap(str(value))
        if not found:
            self.numbers.add(str(value))
            return value
        new = swapped.replace(_GAP, "")
        if name != "inputs" or not re.fullmatch(r"-?\d+(\.\d+)?", new):
            raise Unmapped(f"{value} in {name} may or may not be what the request says")
        self.used |= found
        return float(new) if "." in new else int(new)


def prompt_pattern(prompt: str) -> PromptPattern:
    """Split a prompt into its pattern and its parameters."""
    parameters, parts, end = [], [], 0
    for match in _PARAMETER.finditer(prompt):
        group = match.lastgroup or ""
        kind, value = _KINDS.get(group, "text"), match[group]
        # Files are distinguished by their extension: work on a table differs from work on a picture.
        suffix = "." + value.rpartition(".")[2].casefold() if kind == "file" and "." in value else ""
        parts += [_plain(prompt[end : match.start()]), f"{_MARK}{kind}{suffix}{_MARK}"]
        parameters.append(Parameter(kind, value))
        end = match.end()
    parts.append(_plain(prompt[end:]).rstrip(" .!?"))
    words = (word for part in parts if not part.startswith(_MARK) for word in _tokens(part))
    return PromptPattern(" ".join(filter(None, parts)), tuple(parameters), frozenset(words))


def plan_signature(plan: Iterable[Mapping[str, JsonValue]]) -> str:
    """Equal for plans with the same kinds of subtasks in the same order, whatever their ids."""
    rows = list(plan)
    index = {str(row.get("id")): n for n, row in enumerate(rows)}
    signature = []
    for row in rows:
        names = row.get("depends_on")
        depends_on = sorted(index.get(str(name), -1) for name in names) if isinstance(names, list) else []
        signature.append([row.get("kind"), row.get("role"), row.get("tools") or [], depends_on])
    return json.dumps(signature, sort_keys=True)


def plan_fingerprint(plan: Mapping[str, JsonValue], prompt: str) -> str:
    """Equal for plans that do the same work in the same words, apart from the parameters of their prompts."""
    values = list(dict.fromkeys(parameter.value for parameter in prompt_pattern(prompt).parameters))
    swap = _swapper({value: f"{_MARK}{n}{_MARK}" for n, value in enumerate(values)})
    work = [{name: row[name] for name in sorted(_WORK & row.keys())} for row in _rows(plan)]
    text = json.dumps([work, plan_signature(_rows(plan))], ensure_ascii=False, sort_keys=True)
    text = swap(text)[0] if values else text
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def template_of(plan: Mapping[str, JsonValue], prompt: str, files: Iterable[str]) -> Template | None:
    """The plan of a prompt as a template; None if it is not suitable.

    `files` are the files that existed when it was planned.
    """
    # Reasons are left out: they were those of the earlier run.
    kept = {key: value for key, value in plan.items() if key not in _DROPPED}
    kept["subtasks"] = [{key: value for key, value in row.items() if key != "why"} for row in _rows(plan)]
    rows = _rows(kept)
    if not rows or any(row.get("kind") == "answer" for row in rows) or not prompt_pattern(prompt).telling:
        return None
    text = json.dumps(kept, ensure_ascii=False)
    if len(text) > MAX_CHARS:
        return None
    named = [name for name in _with_folders(files) if _names(text, name)]
    if any(not _names(prompt, name) for name in named):
        return None
    needed = sorted({*named, *(name for name in _with_folders(files) if _names(prompt, name))})
    return Template(kept, tuple(needed))


def fill_template(template: Template, earlier: str, prompt: str) -> Template:
    """Adapt the template of the prompt `earlier` to `prompt`. Raises `Unmapped`."""
    was, now = prompt_pattern(earlier), prompt_pattern(prompt)
    if was.key != now.key:
        raise Unmapped("the request has another form")
    pairs = list(zip(was.parameters, now.parameters, strict=True))
    found: dict[str, str] = {}
    for old, new in pairs:
        if found.setdefault(old.value, new.value) != new.value:
            raise Unmapped(f"{old.value!r} occurred twice, and its occurrences now differ")
    changed = {old: new for old, new in found.items() if old != new}
    if not changed:
        return Template(template.plan, template.files)
    if wrong := next((new for new in changed.values() if new.startswith("$")), None):
        raise Unmapped(f"{wrong!r} would be read as a reference")
    numbers = [old.value for old, new in pairs if old.kind in ("number", "date") and old.value in changed]
    return _filled(template, changed, numbers, was, earlier)


def _filled(
    template: Template, changed: Mapping[str, str], numbers: Sequence[str], was: PromptPattern, earlier: str
) -> Template:
    """The template with the changed parameters, of which `numbers` are numbers and dates."""
    rows = _rows(template.plan)
    alike = Counter((str(row.get("kind")), str(row.get("role")), str(row.get("tools"))) for row in rows)
    counts = {len(rows), *alike.values(), *_lengths(rows)}
    if count := next((old for old in numbers if old in set(map(str, counts))), None):
        raise Unmapped(f"the structure of the plan may follow from {count}")
    swap = _swapper(changed)
    rewrite = _Rewrite(swap)
    plan = rewrite.plan(template.plan)
    if unused := next((old for old in changed if old not in rewrite.used), None):
        raise Unmapped(f"nothing in the plan says where {unused!r} belongs")
    if trace := _trace(changed, was, rewrite.texts):
        raise Unmapped(trace)
    own = rewrite.numbers - {"0", "1"} - set(_NUMBER.findall(earlier))
    if numbers and own:
        raise Unmapped(f"{min(own)} in the plan may have been computed from {numbers[0]}")
    files = tuple(swap(name)[0].replace(_GAP, "") for name in template.files)
    return Template(plan, files, tuple(changed.items()))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _tokens(text: str) -> list[str]:
    return [token.casefold() for token in _TOKEN.findall(text)]


def _rows(plan: Mapping[str, JsonValue]) -> list[dict[str, Any]]:
    subtasks = plan.get("subtasks")
    return [row for row in subtasks if isinstance(row, dict)] if isinstance(subtasks, list) else []


def _with_folders(files: Iterable[str]) -> list[str]:
    names = list(files)
    parts = (name.split("/")[:-1] for name in names)
    return [*names, *sorted({"/".join(folders[: n + 1]) for folders in parts for n in range(len(folders))})]


def _names(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w/.-]){re.escape(name)}(?![\w-]|\.\w)", text) is not None


def _swapper(changed: Mapping[str, str]) -> Swapper:
    """Replaces all parameters in one pass, so that no new one is taken for an old one; gaps enclose new
    ones."""
    longest = sorted(changed, key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<![\w]){re.escape(old)}(?!\w|\.\w)" for old in longest))

    def swap(text: str) -> tuple[str, set[str]]:
        found = set(pattern.findall(text))
        return pattern.sub(lambda match: f"{_GAP}{changed[match[0]]}{_GAP}", text), found

    return swap


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [*value, *(text for item in value.values() for text in _strings(item))]
    return [text for item in value for text in _strings(item)] if isinstance(value, list | tuple) else []


def _without_new(text: str) -> str:
    return " ".join(text.split(_GAP)[0::2])


def _trace(changed: Mapping[str, str], was: PromptPattern, texts: Iterable[str]) -> str:
    """A message about a remaining trace of a parameter that changed; empty if there is none."""
    tokens = dict.fromkeys(token for text in texts for token in _tokens(_without_new(text)))
    for old, new in changed.items():
        for part in _parts(old) - _parts(new) - was.words:
            if found := next((token for token in tokens if token.startswith(part)), None):
                return f"{found!r} in the plan may come from {old!r}"
    return ""


def _parts(value: str) -> set[str]:
    """The words by which a parameter could be recognised elsewhere."""
    parts = {token for token in _tokens(value) if token.isdigit() or len(token) > 2 or not token.isascii()}
    if value.isdigit() and int(value) < len(_NUMBER_WORDS):
        parts |= set(_NUMBER_WORDS[int(value)])
    return parts


def _lengths(value: Any) -> Iterator[int]:
    if isinstance(value, list | tuple):
        yield len(value)
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _lengths(item)
