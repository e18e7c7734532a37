"""Rules about names of files, and how a path is matched with them. Pure.

Names are compared as file systems do that ignore case, composition, invisible characters, and trailing dots
and spaces, so that a name which is harmless here is not another one elsewhere.

Not covered: short names of Windows other than `git~1`.
"""

import fnmatch
import functools
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator_cli.durable.foreign import UNSEEN


@dataclass(frozen=True)
class FileRule:
    """Names that a rule is about, and why.

    A name with `/`, of at most three parts, is the end of a path; the last part may hold `*`. Everything
    below is meant as well.
    """

    text: str
    """The names, with spaces between them."""
    why: str
    only: Literal["", "existing", "project", "keys", "hosts"] = ""
    """Any change; only if one of the names was in the folder before the run, or in one above it (`project`);
    that and a change of `keys`; or, if one of the names was there, a site that it did not name (`hosts`)."""
    beside: str = ""
    """Further names, `*` included, which count for `only` as if one of the names had been there."""
    keys: str = ""
    """The keys and sections of a JSON, TOML or INI file, with dots and `*`, whose values are executed.

    Of a key that ends with `@` only the values that are addresses of files, folders or sites.
    """
    harmless: str = ""
    """The keys and sections that are not, as `keys` gives those. Without any, all that `keys` does not name.

    With some, all others count, so that an unknown tool is asked about.
    """
    values: str = ""
    """A regular expression: texts in which it is found are executed whatever their key."""
    members: str = ""
    """Further `keys` of a file in a folder of a workspace of npm, whose packages all others can run."""
    lines: str = ""
    """A regular expression: only a file that gains lines which begin with it counts."""
    lines_are: str = ""
    """What such lines are, in words."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.text.split())

    def has_beside(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(canonical(name), one.lower()) for one in self.beside.split())

    def executed_keys(
        self, found: Mapping[str, object], above: str = "", *, is_harmless: bool = False
    ) -> dict[str, object]:
        """What a program executes of the content of a file.

        Args:
            above: the keys that lead to it, each with a dot at its end.
            is_harmless: whether one of these is harmless.
        """
        rows: dict[str, object] = {}
        for key, value in found.items():
            path = f"{above}{key}"
            harmless = is_harmless or not self.harmless or _matches(path, self.harmless)
            if _matches(path, self.keys):
                rows[path] = value
            elif _matches(f"{path}@", self.keys):
                rows[path] = sorted(filter(_ADDRESS.match, texts_in(value)))
            elif isinstance(value, dict):
                rows |= self.executed_keys(value, f"{path}.", is_harmless=harmless)
            elif not harmless:
                rows[path] = value
            elif self.values:
                rows[path] = [text for text in texts_in(value) if re.search(self.values, text)]
        return {path: value for path, value in rows.items() if value}


def _matches(path: str, patterns: str) -> bool:
    return any(fnmatch.fnmatchcase(path, one) for one in patterns.split())


_ADDRESS = re.compile(
    r"\A(?:(?!workspace:|npm:|catalog:).*[:/\\]|\.|.*\.(tgz|tar|tar\.gz|zip|whl)$)", re.DOTALL | re.IGNORECASE
)
"""What installers take for a file, a folder or a site, and not for a version."""


def texts_in(value: object) -> Iterator[str]:
    """The texts in a value. One that its key makes a place, such as `{path = "x"}`, begins with the key."""
    if isinstance(value, dict):
        for key, one in value.items():
            is_place = key in ("path", "file", "git", "url", "source", "registry", "index")
            yield from (f"{key}:{text}" if is_place else text for text in texts_in(one))
    elif isinstance(value, list):
        yield from (text for one in value for text in texts_in(one))
    elif isinstance(value, str):
        yield value


_IGNORED = re.compile(f"[{UNSEEN}]")


@functools.lru_cache(1 << 16)
def canonical(name: str) -> str:
    """A name as the most forgiving file system compares it."""
    if name.isascii():
        plain = name.lower()
    else:
        composed = _IGNORED.sub("", unicodedata.normalize("NFKC", name))
        visible = "".join(sign for sign in composed if unicodedata.category(sign) != "Cf")
        plain = unicodedata.normalize("NFKC", visible.casefold())
    # A colon begins the name of a stream of NTFS.
    return plain.partition(":")[0].rstrip(". ") or plain


class FileRules:
    """Rules, prepared to be asked about many paths."""

    def __init__(self, rules: Sequence[FileRule]) -> None:
        self._by_name: dict[str, list[tuple[tuple[str, ...], FileRule]]] = {}
        self._patterns: list[tuple[re.Pattern[str], tuple[str, ...], FileRule]] = []
        self._parents: set[tuple[str, ...]] = set()
        self.folders = {
            "/".join(parts[:end])
            for rule in rules
            for name in rule.names
            if (parts := name.split("/"))
            for end in range(1, len(parts) + 1)
            if "*" not in parts[end - 1]
        }
        """Every name without `*`, and the beginnings of the longer ones."""
        lasts = (name.rpartition("/")[2].lower() for rule in rules for name in rule.names)
        self._any_pattern = re.compile(
            "|".join(fnmatch.translate(one) for one in lasts if "*" in one) or "(?!)"
        )
        for rule in rules:
            for name in rule.names:
                *before, last = (part.lower() for part in name.split("/"))
                self._parents |= {tuple(before[:end]) for end in range(1, len(before) + 1)}
                if "*" in last:
                    self._patterns.append((re.compile(fnmatch.translate(last)), tuple(before), rule))
                else:
                    self._by_name.setdefault(last, []).append((tuple(before), rule))

    def at(self, parts: Sequence[str]) -> FileRule | None:
        """The rule whose name is the end of a path."""
        *above, last = map(canonical, parts[-3:])
        for before, rule in self._by_name.get(last, ()):
            if not before or tuple(above[-len(before) :]) == before:
                return rule
        for pattern, before, rule in self._patterns if self._any_pattern.match(last) else ():
            if pattern.match(last) and (not before or tuple(above[-len(before) :]) == before):
                return rule
        return None

    def within(self, path: str, above: Sequence[str] = ()) -> tuple[str, FileRule] | None:
        """The first rule on the way to a path, and the path up to its name.

        `above`: the folders that the path is in; a name of several parts may begin in the last two.
        """
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            if (rule := self.at([*above[-2:], *parts[:end]])) is not None:
                return "/".join(parts[:end]), rule
        return None

    def begun_by(self, path: str, above: Sequence[str] = ()) -> str:
        """The part of a longer name that a path ends with; empty if no rule goes on below it."""
        parts = [canonical(part) for part in [*above[-1:], *path.split("/")][-2:]]
        return next(("/".join(end) for end in (parts, parts[-1:]) if tuple(end) in self._parents), "")
