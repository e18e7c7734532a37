"""Two lists of lines as a unified diff, in time that grows with their length only. Pure.

difflib compares well and takes between the square and the cube of the length, so it compares only short
stretches here. Long ones are cut at the lines that both sides have once each, in the same order, as patience
diff does. What is left then is shown as removed and added as a whole.
"""

import difflib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise, takewhile
from typing import NamedTuple

SHORT = 100_000
"""How many pairs of lines difflib compares in one stretch."""
_COST = 10
"""What such a pair costs, in lines that are read."""
_WORK, _WORK_PER_LINE = 5_000_000, 10
"""What one diff may cost."""


class _Stretch(NamedTuple):
    """Lines of the old side and of the new one, without their ends."""

    old: int
    old_end: int
    new: int
    new_end: int

    @property
    def pairs(self) -> int:
        return (self.old_end - self.old) * (self.new_end - self.new)

    @property
    def lines(self) -> int:
        return self.old_end - self.old + self.new_end - self.new


class _Matcher(difflib.SequenceMatcher[str]):
    """difflib's, with other blocks."""

    def __init__(self, old: Sequence[str], new: Sequence[str]) -> None:
        super().__init__(None, old, new)
        self._blocks = _blocks(old, new)

    def get_matching_blocks(self) -> list[difflib.Match]:
        return self._blocks


def unified(old: Sequence[str], new: Sequence[str], name_old: str, name_new: str) -> Iterator[str]:
    """The lines of the diff, each with the end that it has; nothing if both sides are the same."""
    matcher = _Matcher if len(old) * len(new) > SHORT else lambda a, b: difflib.SequenceMatcher(None, a, b)
    for number, group in enumerate(matcher(old, new).get_grouped_opcodes()):
        if number == 0:
            yield f"--- {name_old}\n"
            yield f"+++ {name_new}\n"
        (_, old_at, _, new_at, _), (_, _, old_end, _, new_end) = group[0], group[-1]
        yield f"@@ -{_range(old_at, old_end)} +{_range(new_at, new_end)} @@\n"
        for kind, old_at, old_end, new_at, new_end in group:
            if kind == "equal":
                yield from (f" {line}" for line in old[old_at:old_end])
                continue
            yield from (f"-{line}" for line in old[old_at:old_end])
            yield from (f"+{line}" for line in new[new_at:new_end])


def _range(start: int, end: int) -> str:
    length = end - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"


def _blocks(old: Sequence[str], new: Sequence[str]) -> list[difflib.Match]:
    """What both sides share, in order, with an empty block at the end, as difflib has it."""
    left = _WORK + _WORK_PER_LINE * (len(old) + len(new))
    found: list[tuple[int, int, int]] = []
    todo = [_Stretch(0, len(old), 0, len(new))]
    while todo:
        stretch = todo.pop()
        head, tail = _same_ends(old, new, stretch)
        found += [(stretch.old, stretch.new, head), (stretch.old_end - tail, stretch.new_end - tail, tail)]
        inner = _Stretch(
            stretch.old + head, stretch.old_end - tail, stretch.new + head, stretch.new_end - tail
        )
        left -= stretch.lines
        if not inner.pairs or left < 0:
            continue
        if inner.pairs <= SHORT:
            left -= _COST * inner.pairs
            found += _compared(old, new, inner)
        elif anchors := _anchors(old, new, inner):
            found += [(at, other, 1) for at, other in anchors]
            edges = [(inner.old - 1, inner.new - 1), *anchors, (inner.old_end, inner.new_end)]
            todo += [
                _Stretch(at + 1, next_at, other + 1, next_other)
                for (at, other), (next_at, next_other) in pairwise(edges)
            ]
    return [*_joined(sorted(one for one in found if one[2])), difflib.Match(len(old), len(new), 0)]


def _same_ends(old: Sequence[str], new: Sequence[str], stretch: _Stretch) -> tuple[int, int]:
    """How many lines a stretch begins and ends with on both sides."""
    most = min(stretch.old_end - stretch.old, stretch.new_end - stretch.new)
    head = sum(1 for _ in takewhile(lambda n: old[stretch.old + n] == new[stretch.new + n], range(most)))
    last_old, last_new = stretch.old_end - 1, stretch.new_end - 1
    tail = takewhile(lambda n: old[last_old - n] == new[last_new - n], range(most - head))
    return head, sum(1 for _ in tail)


def _compared(old: Sequence[str], new: Sequence[str], stretch: _Stretch) -> list[tuple[int, int, int]]:
    ours, theirs = old[stretch.old : stretch.old_end], new[stretch.new : stretch.new_end]
    blocks = difflib.SequenceMatcher(None, ours, theirs).get_matching_blocks()
    return [(stretch.old + at, stretch.new + other, size) for at, other, size in blocks]


def _anchors(old: Sequence[str], new: Sequence[str], stretch: _Stretch) -> list[tuple[int, int]]:
    """The most lines that each side has once, in the same order, as positions on both."""
    ours, theirs = old[stretch.old : stretch.old_end], new[stretch.new : stretch.new_end]
    once = {line for line, count in Counter(theirs).items() if count == 1}
    once &= {line for line, count in Counter(ours).items() if count == 1}
    at_new = {line: at for at, line in enumerate(theirs, stretch.new) if line in once}
    pairs = [(at, at_new[line]) for at, line in enumerate(ours, stretch.old) if line in once]
    # The longest rising sequence of the new positions: the last of each length, and who comes before whom.
    ends: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for index, (_, other) in enumerate(pairs):
        length = bisect_left(ends, other)
        before.append(last[length - 1] if length else -1)
        ends[length : length + 1] = [other]
        last[length : length + 1] = [index]
    way: list[tuple[int, int]] = []
    index = last[-1] if last else -1
    while index >= 0:
        way.append(pairs[index])
        index = before[index]
    return way[::-1]


def _joined(blocks: Sequence[tuple[int, int, int]]) -> Iterator[difflib.Match]:
    """Blocks that follow each other on both sides as one."""
    at = other = size = 0
    for next_at, next_other, next_size in blocks:
        if (at + size, other + size) == (next_at, next_other):
            size += next_size
            continue
        if size:
            yield difflib.Match(at, other, size)
        at, other, size = next_at, next_other, next_size
    if size:
        yield difflib.Match(at, other, size)
