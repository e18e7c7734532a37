"""The knowledge base of a user: where it is stored, and how a run searches it.

Documents belong to the workspace they were added from, their project, and are visible there; documents added
for the user are visible from every workspace. The knowledge base has a folder of its own in the data folder,
or is on the Qdrant server if one is set.

What a run finds is untrusted and marked as such; it is cited by title, path and position.

What is not covered: adding documents (see `admin.knowledge`).
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from memory import Dense, MemoryFault, Scope, open_store
from memory.knowledge import FoundChunk, KnowledgeBase
from orchestrator_cli.settings import Settings
from orchestrator_cli.tools.knowledge import Piece


def project_of(settings: Settings) -> str:
    """The project of a workspace in the knowledge base."""
    return str(settings.workspace.resolve())


@contextlib.contextmanager
def open_knowledge(
    settings: Settings, scope: Scope, warn: Callable[[str], None], dense: Dense | None = None
) -> Iterator[KnowledgeBase]:
    """Open the knowledge base for reads and writes in `scope`. Raises `MemoryFault`."""
    engine = settings.memory
    store = open_store(settings.home / "knowledge", url=engine.url, api_key=engine.api_key, warn=warn)
    with contextlib.closing(store):
        yield KnowledgeBase(store, scope, dense)


class KnowledgeReader:
    """Look-ups of a run. The store is opened for each one; no files are created if no document was added."""

    def __init__(self, settings: Settings, warn: Callable[[str], None], dense: Dense | None = None) -> None:
        self._settings = settings
        self._warn = warn
        self._dense = dense

    @functools.cached_property
    def has_something(self) -> bool:
        """Whether there are documents; a knowledge base that cannot be read is reported as a warning."""
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

    def _piece(self, found: FoundChunk) -> Piece:
        source = display_path(found.ref, self._root)
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
        """Translate errors into `ValueError`, whose message the agent sees."""
        try:
            yield
        except MemoryFault as exc:
            raise ValueError(f"the knowledge base cannot be read: {exc}") from exc


def display_path(ref: str, root: Path) -> str:
    """A document's path within the workspace, or its full path or address."""
    path = Path(ref)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else ref


def cite(found: FoundChunk, root: Path) -> str:
    """`[title, path, lines 3-9]`; without the title if it is the name of the file."""
    source = display_path(found.ref, root)
    title = " ".join(found.title.translate({ord("["): "(", ord("]"): ")"}).split())
    named = [] if title == source.rpartition("/")[2] else [title]
    return f"[{', '.join([*named, source, found.where])}]"
