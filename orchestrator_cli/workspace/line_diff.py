"""The difference of two texts by lines, in bounded time: the files may be a stranger's.

A shortest list of changes is found by the greedy algorithm of Myers ("An O(ND) Difference Algorithm", 1986),
whose time grows with the number of changes. If they are too many, everything between the first and the last
changed line counts as one change. The result is the same each time. Pure.
"""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

MAX_STEPS = 1_000_000
"""Of one comparison, some 0.5 s. They suffice for 1,400 changes, or for more lines than are compared."""


class _Match(NamedTuple):
    """A stretch of equal lines, with where it begins in both texts."""

    a: int
    b: int
    size: int


def unified_lines(old: Sequence[str], new: Sequence[str], name_old: str, name_new: str) -> Iterator[str]:
    """The unified diff of two texts, with line ends; nothing if they are equal."""
    matcher = SequenceMatcher(None, "", "")
    matcher.opcodes = list(_changes(old, new))  # type: ignore[attr-defined]  # what it would search for
    groups = [] if old == new else list(matcher.get_grouped_opcodes())
    if groups:
        yield from (f"--- {name_old}\n", f"+++ {name_new}\n")
    for group in groups:
        (_, a, _, b, _), (_, _, a_end, _, b_end) = group[0], group[-1]
        yield f"@@ -{_range(a, a_end)} +{_range(b, b_end)} @@\n"
        for tag, i, i_end, j, j_end in group:
            if tag == "equal":
                yield from (f" {line}" for line in old[i:i_end])
            else:
                yield from (f"-{line}" for line in old[i:i_end])
                yield from (f"+{line}" for line in new[j:j_end])


def _range(start: int, end: int) -> str:
    size = end - start
    return str(end) if size == 1 else f"{start + 1 if size else start},{size}"


def _changes(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[str, int, int, int, int]]:
    """What makes one text of the other, as `SequenceMatcher.get_opcodes`."""
    i = j = 0
    for a, b, size in (*_matches(old, new), _Match(len(old), len(new), 0)):
        if i < a or j < b:
            yield "insert" if i == a else "delete" if j == b else "replace", i, a, j, b
        i, j = a + size, b + size
        if size:
            yield "equal", a, i, b, j


def _matches(old: Sequence[str], new: Sequence[str]) -> list[_Match]:
    numbers: dict[str, int] = {}
    a, b = ([numbers.setdefault(line, len(numbers)) for line in text] for text in (old, new))
    most = min(len(a), len(b))
    start = next((n for n in range(most) if a[n] != b[n]), most)
    most -= start
    end = next((n for n in range(most) if a[-1 - n] != b[-1 - n]), most)
    middle = _shortest(a[start : len(a) - end], b[start : len(b) - end])
    found = [_Match(0, 0, start), *(_Match(x + start, y + start, size) for x, y, size in middle)]
    return [match for match in (*found, _Match(len(a) - end, len(b) - end, end)) if match.size]


def _shortest(a: Sequence[int], b: Sequence[int]) -> list[_Match]:
    """The matches that a shortest list of changes leaves; none if it takes more than `MAX_STEPS`."""
    rounds: list[list[int]] = []
    """How far `a` can be followed with 0, 1, 2 … changes: for each number of deletions among them."""
    left = MAX_STEPS
    while True:
        changes, reached = len(rounds), list[int]()
        for deletions in range(changes + 1):
            x = begun = _begun(rounds, changes, deletions)
            y = x + changes - 2 * deletions
            while x < len(a) and y < len(b) and a[x] == b[y]:
                x, y = x + 1, y + 1
            reached.append(x)
            if (left := left - 1 - x + begun) < 0:
                return []
            if x >= len(a) and y >= len(b):
                return list(_traced([*rounds, reached], deletions))[::-1]
        rounds.append(reached)


def _begun(rounds: Sequence[Sequence[int]], changes: int, deletions: int) -> int:
    """Where in `a` the last change leads, the one of two that leads farther."""
    if not changes:
        return 0
    before = rounds[changes - 1]
    return before[deletions] if _is_insertion(before, deletions) else before[deletions - 1] + 1


def _is_insertion(before: Sequence[int], deletions: int) -> bool:
    return deletions < len(before) and (not deletions or before[deletions - 1] < before[deletions])


def _traced(rounds: Sequence[Sequence[int]], deletions: int) -> Iterator[_Match]:
    """The matches of a way, from its end."""
    for changes in range(len(rounds) - 1, -1, -1):
        begun = _begun(rounds, changes, deletions)
        if size := rounds[changes][deletions] - begun:
            yield _Match(begun, begun + changes - 2 * deletions, size)
        if changes and not _is_insertion(rounds[changes - 1], deletions):
            deletions -= 1
