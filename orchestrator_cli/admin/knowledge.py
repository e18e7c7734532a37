"""The knowledge base as its user keeps it: adding, looking again, taking out. Behind `orch kb`.

Addresses are fetched because the user names them here, from public addresses only, redirects included.

What is not covered: how it is shown.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from memory import MemoryFault, Scope
from memory.documents import MAX_BYTES, Unreadable
from memory.gathering import Gathering, Page
from memory.gathering import Outcome as Outcome
from memory.knowledge import Found as Found
from memory.knowledge import KnowledgeBase, Known, Named
from memory.walk import is_file
from orchestrator_cli.admin.conversion import REASON_CHARS, Converter
from orchestrator_cli.errors import RunFailed, UsageError
from orchestrator_cli.recall.dense import open_dense
from orchestrator_cli.recall.knowledge import open_knowledge, project_of
from orchestrator_cli.settings import Settings
from orchestrator_cli.tools.files import is_protected
from orchestrator_cli.tools.web import Resolve, fetch, public_address

Told = Callable[[str, int], None]
"""Each document before it is read, and how many there are."""


@dataclass(frozen=True)
class Removed:
    """What was taken out."""

    documents: tuple[str, ...]
    chunks: int
    left_out: str = ""
    """A file that was never read, and is not looked at any more."""


class Keeping:
    """The knowledge base as its user keeps it. Raises `UsageError`, `ConfigError` and `RunFailed`.

    `everywhere` looks beyond this workspace and what belongs to none. `resolve` finds and checks addresses.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        everywhere: bool = False,
        warn: Callable[[str], None] = lambda _: None,
        resolve: Resolve = public_address,
    ) -> None:
        self._settings = settings
        self._warn = warn
        self._dense = open_dense(settings, warn)
        self._resolve = resolve
        self.root = settings.workspace.resolve()
        self._home = settings.home.resolve()
        self._here = Scope(project=project_of(settings))
        self._seen = Scope() if everywhere else self._here

    def listed(self) -> tuple[list[Named], list[Known]]:
        with self._opened() as base:
            return base.sources(), base.documents()

    def search(self, query: str, limit: int) -> list[Found]:
        with self._opened() as base:
            return base.search(query, limit)

    def add(self, wanted: Iterable[str], *, for_user: bool, told: Told) -> "Gathered":
        """Read what is named, for this workspace or for the user; begun with `run`.

        A path is one from the folder in which the command runs.
        """
        return Gathered(self, [Scope() if for_user else self._here], list(wanted), told)

    def refresh(self, told: Told) -> "Gathered":
        """Look again at all sources that are seen; begun with `run`."""
        with self._opened() as base:
            scopes = {named.scope.project: named.scope for named in base.sources()}
        return Gathered(self, list(scopes.values()), None, told)

    def remove(self, wanted: str) -> Removed:
        """Take out a source, a document, or what lies below a folder; its text is gone from the disk."""
        with self._opened() as base:
            is_address = "://" in wanted
            sources, documents = base.sources(), base.documents()
            ref = (
                wanted
                if is_address
                else self._path(wanted, {*(one.ref for one in sources), *(one.ref for one in documents)})
            )
            named = [one for one in sources if one.ref == ref]
            others = [one for one in sources if one.ref != ref]
            below = Named(ref, "web" if is_address else "folder", self._seen)
            doomed = [
                known
                for known in documents
                if known.ref == ref or (below.holds(known.ref) and not _has_other_home(known, named, others))
            ]
            if not named and not doomed:
                return _left_out(base, ref, others, wanted)
            for other in others:
                kept_out = [k.ref for k in doomed if k.scope == other.scope and other.holds(k.ref)]
                if kept_out:
                    base.leave_out(other, kept_out)
            return Removed(tuple(known.ref for known in doomed), base.take_out(doomed, named))

    def _path(self, wanted: str, known: set[str]) -> str:
        """What a path means: seen from where the command runs, else from the workspace, as it is shown."""
        here, there = Path(wanted).expanduser().resolve(), (self.root / wanted).resolve()
        return str(there if str(there) in known and str(here) not in known else here)

    @contextlib.contextmanager
    def _opened(self, scope: Scope | None = None) -> Iterator[KnowledgeBase]:
        try:
            with open_knowledge(self._settings, scope or self._seen, self._warn, self._dense) as base:
                yield base
        except MemoryFault as exc:
            raise RunFailed(f"The knowledge base cannot be used: {exc}") from exc

    @contextlib.contextmanager
    def gathering(self, scope: Scope, told: Told) -> Iterator[Gathering]:
        """What reads documents into one scope."""
        with self._opened(scope) as base, Converter(self._settings) as convert:
            yield Gathering(
                base,
                scope,
                convert=convert,
                fetch=self._fetch,
                refused=self._refused,
                told=told,
            )
            base.embed()

    def _refused(self, path: Path) -> bool:
        return is_protected(path.name) or self._is_own(path.resolve())

    def _is_own(self, path: Path) -> bool:
        """Whether it lies in the data folder; a workspace in there is the user's all the same."""
        if not path.is_relative_to(self._home):
            return False
        return not (self.root.is_relative_to(self._home) and path.is_relative_to(self.root))

    def _fetch(self, url: str) -> Page:
        import httpx

        if "@" in url.partition("://")[2].partition("/")[0]:
            raise Unreadable("an address with a password is not kept")
        try:
            reply = fetch(url, self._resolve, MAX_BYTES + 1)
        except (ValueError, OSError, httpx.HTTPError, httpx.InvalidURL) as exc:
            raise Unreadable(f"it cannot be fetched: {exc}"[:REASON_CHARS]) from exc
        if len(reply.body) > MAX_BYTES:
            raise Unreadable(f"it is larger than {MAX_BYTES // 2**20} MB")
        return Page(reply.body, reply.media)


def _left_out(base: KnowledgeBase, ref: str, sources: Iterable[Named], wanted: str) -> Removed:
    """Look no more at a file of a folder that could never be read. Raises `UsageError` where it is none."""
    folders = [one for one in sources if one.type == "folder" and one.holds(ref)]
    if not folders or not is_file(Path(ref)):
        raise UsageError(f"The knowledge base has no {wanted}.", "List what there is with: orch kb list")
    for folder in folders:
        base.leave_out(folder, [ref])
    return Removed((), 0, left_out=ref)


def _has_other_home(known: Known, named: Iterable[Named], others: Iterable[Named]) -> bool:
    """Whether a document below a source that is removed was also added in another way.

    Below a folder that is no source itself, all documents go.
    """
    return any(named) and any(other.scope == known.scope and other.holds(known.ref) for other in others)


class Gathered:
    """A gathering that is under way: `outcome` says how far it has come, also when it was interrupted."""

    def __init__(self, keeping: Keeping, scopes: list[Scope], wanted: list[str] | None, told: Told) -> None:
        self._keeping = keeping
        self._scopes = scopes
        self._wanted = wanted
        self._told = told
        self._parts: list[Outcome] = []

    def run(self) -> Outcome:
        for scope in self._scopes:
            with self._keeping.gathering(scope, self._told) as gathering:
                self._parts.append(gathering.outcome)
                if self._wanted is None:
                    gathering.refresh()
                else:
                    gathering.add(self._wanted)
        return self.outcome

    @property
    def outcome(self) -> Outcome:
        whole = Outcome()
        for part in self._parts:
            for name, value in vars(part).items():
                setattr(whole, name, getattr(whole, name) + value)
        return whole
