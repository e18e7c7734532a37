"""The names that links in a workspace give to its paths."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from orchestrator_cli.errors import WorkspaceFault
from orchestrator_cli.tools.executed_files import INSTALLED
from orchestrator_cli.tools.file_names import canonical
from orchestrator_cli.tools.file_rules import executes

MAX_ALIASES = 50_000
MAX_HOPS = 40


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
            if len(seen) > MAX_ALIASES:
                raise WorkspaceFault("there are too many links to tell which files are executed")
            seen.add(key)
            self._ends.setdefault(place, []).append(alias)
            work += [f"{alias}/{rest}" for rest in self._links_below(place)]

    def others(self, path: str) -> Iterator[str]:
        """The names that a path has because of links."""
        parts = path.split("/")
        for end in range(len(parts) + 1):
            for alias in self._ends.get(plain("/".join(parts[:end])), ()):
                yield "/".join([alias, *parts[end:]])

    def through(self, path: str) -> Iterable[str]:
        """The names that lead through a link, other than its own."""
        return (name for name in self._through.get(plain(path), ()) if name != path)

    def followed(self, path: str) -> tuple[Iterable[str], list[str] | None]:
        """The links that the resolution of a path passes, and the absolute place where it ends.

        The place is None if the links go in circles. Links outside the workspace are not followed.
        """
        here, passed = [*self._above], dict[str, None]()
        left = plain(path).split("/")[::-1]
        for _ in range(MAX_HOPS * 100):
            if not left:
                return passed, here
            part = left.pop()
            if part == "..":
                del here[-1:]
            elif part not in ("", "."):
                here.append(part)
                place = self.inside(here)
                _, target = self._links.get(place, ("", "")) if place else ("", "")
                if place and target:
                    passed[place] = None
                    here = [] if target.startswith("/") else here[:-1]
                    left += plain(target).split("/")[::-1]
        return passed, None

    def inside(self, place: Sequence[str]) -> str | None:
        """The path in the workspace of an absolute place; None if it is outside."""
        end = len(self._above)
        return "/".join(place[end:]) if list(place[:end]) == self._above else None

    def _links_below(self, place: str) -> Iterable[str]:
        start = f"{place}/" if place else ""
        return [path[len(start) :] for path in self._links if path.startswith(start)]


def plain(path: str) -> str:
    return "/".join(part if part in (".", "..") else canonical(part) for part in path.split("/"))
