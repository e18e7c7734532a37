"""The names that links in a workspace give to its paths.

Links may be written to multiply: each names all that is below another. So what is done about them is counted,
and beyond `MAX_STEPS` their names are unclear.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from orchestrator_cli.errors import WorkspaceFault
from orchestrator_cli.tools.executed_files import INSTALLED
from orchestrator_cli.tools.file_names import canonical
from orchestrator_cli.tools.file_rules import executes

MAX_HOPS = 40
"""The kernel follows no more links on the way to a file."""
MAX_STEPS = 1_000_000
"""Of some microseconds each."""
NAME_STEPS = 5
"""What it costs to ask the rules about a name."""


class LinkNames:
    """The names that links give to paths, as far as a rule is about them; compared by `canonical`.

    Both ends of a link count, and all links that its resolution passes: each of them decides what is found.
    """

    def __init__(
        self,
        links: Mapping[str, str],
        above: Sequence[str],
        outside: Callable[[str], Iterable[tuple[str, str]]] = lambda _: (),
    ) -> None:
        """
        Args:
            above: the parts of the absolute path of the workspace, into which targets may lead back.
            outside: further names of a path, by which rules may be about it.
        """
        self._above = [canonical(part) for part in above]
        self._links = {plain(path): (path, target) for path, target in links.items()}
        self._sorted = sorted(self._links)
        self._left = MAX_STEPS
        self._ends: dict[str, list[str]] = {}
        """By where links lead: the names under which that, and everything below, is found."""
        self._through: dict[str, dict[str, None]] = {}
        """By links: the names whose resolution passes them."""
        work = [path for path, _ in self._links.values()]
        seen: set[tuple[str, str]] = set()
        for alias in work:
            hit = executes.within(alias, above)
            about = hit[0] if hit else executes.begun_by(alias, above)
            about = about or next(
                (n for n, _ in outside(alias) if executes.within(n) or executes.begun_by(n)), ""
            )
            # Installed programs are known by their names: what they lead to is often the user's own source.
            by_name = hit is not None and (hit[1].only == "existing" or hit[1] is INSTALLED)
            if not about or (by_name and alias != about):
                continue
            passed, end = self.followed(alias)
            for link in passed:
                self._through.setdefault(link, {})[alias] = None
            place = self.inside(end) if end is not None else None
            if place is None or (key := (place, about)) in seen:
                continue
            seen.add(key)
            self._ends.setdefault(place, []).append(alias)
            work += [f"{alias}/{rest}" for rest in self._links_below(place)]

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise WorkspaceFault("there are too many links to tell which files are executed")

    def others(self, path: str) -> Iterator[str]:
        """The names that a path has because of links. Raises `WorkspaceFault` if there are too many."""
        parts = path.split("/")
        for end in range(len(parts) + 1):
            for alias in self._ends.get(plain("/".join(parts[:end])), ()):
                self._spend(NAME_STEPS)
                yield "/".join([alias, *parts[end:]])

    def through(self, path: str) -> Iterator[str]:
        """The names that lead through a link, other than its own. Raises as `others` does."""
        for name in self._through.get(plain(path), ()):
            if name != path:
                self._spend(NAME_STEPS)
                yield name

    def followed(self, path: str) -> tuple[Iterable[str], list[str] | None]:
        """The links that the resolution of a path passes, and the absolute place where it ends.

        The place is None if there are too many links, as when they go in circles. Links outside the workspace
        are not followed.
        """
        here, passed, hops = [*self._above], dict[str, None](), 0
        left = plain(path).split("/")[::-1]
        while left and hops <= MAX_HOPS:
            part = left.pop()
            if part == "..":
                del here[-1:]
            elif part not in ("", "."):
                here.append(part)
                self._spend(1 + len(here) // 16)
                place = self.inside(here)
                _, target = self._links.get(place, ("", "")) if place else ("", "")
                if place and target:
                    passed[place] = None
                    hops += 1
                    here = [] if target.startswith("/") else here[:-1]
                    left += plain(target).split("/")[::-1]
                    self._spend(len(target) // 16)
        return passed, None if hops > MAX_HOPS else here

    def inside(self, place: Sequence[str]) -> str | None:
        """The path in the workspace of an absolute place; None if it is outside."""
        end = len(self._above)
        return "/".join(place[end:]) if list(place[:end]) == self._above else None

    def _links_below(self, place: str) -> Iterable[str]:
        start = f"{place}/" if place else ""
        first = bisect_left(self._sorted, start)
        end = bisect_left(self._sorted, f"{place}0") if place else len(self._sorted)  # 0 comes after /
        self._spend(NAME_STEPS * (end - first))
        return [path[len(start) :] for path in self._sorted[first:end]]


def plain(path: str) -> str:
    return "/".join(part if part in (".", "..") else canonical(part) for part in path.split("/"))
