"""The knowledge base of a user: where it lies, who sees what of it, and what a run can look up in it.

What is added belongs to the workspace it was added from, its project, and is seen from there; what is added
for the user is seen from every workspace. It lies in a folder of its own in the data folder, or on the
Qdrant server where one is set.

What is looked up is foreign, and says so; it is cited by title, path and place.

What is not covered: how documents get in (see `keeping.knowledge`).
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from memory import Dense, MemoryFault, Scope, open_store
from memory.knowledge import Found, KnowledgeBase
from orchestrator_cli.settings import Settings
from orchestrator_cli.tools.knowledge import Piece


def project_of(settings: Settings) -> str:
    """What a workspace is called in the knowledge base."""
    return str(settings.workspace.resolve())


@contextlib.contextmanager
def open_knowledge(
    settings: Settings, scope: Scope, warn: Callable[[str], None], dense: Dense | None = None
) -> Iterator[KnowledgeBase]:
    """The knowledge base as it is seen from `scope`. Raises `MemoryFault`."""
    engine = settings.memory
    store = open_store(settings.home / "knowledge", url=engine.url, api_key=engine.api_key, warn=warn)
    with contextlib.closing(store):
        yield KnowledgeBase(store, scope, dense)


class KnowledgeShelf:
    """What a run can look up. It is opened for each look-up; nothing is made where nothing was ever added."""

    def __init__(self, settings: Settings, warn: Callable[[str], None], dense: Dense | None = None) -> None:
        self._settings = settings
        self._warn = warn
        self._dense = dense

    @functools.cached_property
    def has_something(self) -> bool:
        """Whether there is anything to be found; a knowledge base that cannot be read is told as a notice."""
        if self._settings.memory.url is None and not (self._settings.home / "knowledge").is_dir():
            return False
        try:
            with self._opened() as base:
                return bool(base)
        except MemoryFault as exc:
            self._warn(f"The knowledge base cannot be read: {exc}")
            return False

    def search(self, query: str, limit: int) -> list[Piece]:
        with self._translated(), self._opened() as base:
            return [self._piece(found) for found in base.search(query, limit)]

    def read(self, source: str, part: int, parts: int) -> list[Piece]:
        with self._translated(), self._opened() as base:
            is_address = source.startswith(("http://", "https://"))
            ref = source if is_address else str((self._root / source).resolve())
            return [self._piece(found) for found in base.read(ref, part, parts)]

    def _opened(self) -> contextlib.AbstractContextManager[KnowledgeBase]:
        scope = Scope(project=project_of(self._settings))
        return open_knowledge(self._settings, scope, self._warn, self._dense)

    @property
    def _root(self) -> Path:
        return self._settings.workspace.resolve()

    def _piece(self, found: Found) -> Piece:
        source = shown(found.ref, self._root)
        return {
            "cite": cite(found, self._root),
            "text": found.text,
            "under": " > ".join(found.headings),
            "source": source,
            "part": found.part,
            "trusted": False,
        }

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """A tool tells its agent what is wrong by a `ValueError`."""
        try:
            yield
        except MemoryFault as exc:
            raise ValueError(f"the knowledge base cannot be read: {exc}") from exc


def shown(ref: str, root: Path) -> str:
    """A document as people call it: within the workspace by its path there."""
    path = Path(ref)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else ref


def cite(found: Found, root: Path) -> str:
    """`[title, path, lines 3-9]`; without the title where it is the name of the file."""
    source = shown(found.ref, root)
    title = " ".join(found.title.translate({ord("["): "(", ord("]"): ")"}).split())
    named = [] if title == source.rpartition("/")[2] else [title]
    return f"[{', '.join([*named, source, found.where])}]"
