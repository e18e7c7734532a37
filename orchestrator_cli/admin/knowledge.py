"""The knowledge base as its user manages it, behind `orch kb`: add, refresh, list, search and remove.

Pages are fetched because the user names them, from public addresses only, including redirects.

One sandboxed worker converts all documents of a command: see `recall.converter`.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from memory import MemoryFault, Scope
from memory.knowledge import FoundChunk as FoundChunk
from memory.knowledge import KnowledgeBase, KnowledgeSource, StoredDocument
from memory.knowledge.documents import MAX_BYTES, UnreadableDocument, is_file
from memory.knowledge.ingest import PROTECTED, FetchedPage, Ingester
from memory.knowledge.ingest import IngestReport as IngestReport
from orchestrator_cli.errors import RunFailed, UsageError
from orchestrator_cli.recall.converter import REASON_CHARS, Converter
from orchestrator_cli.recall.knowledge import open_knowledge
from orchestrator_cli.recall.named_files import NamedFiles
from orchestrator_cli.recall.run_memory import open_dense
from orchestrator_cli.recall.scopes import own_scope, user_scope
from orchestrator_cli.settings import Settings
from orchestrator_cli.tools.web import Resolve, fetch
from toolsmith.sandbox.addresses import public_address

OnDocument = Callable[[str, int, float], None]
"""Called with the ref of a document, the number of documents, and the share that is done: see `Ingester`."""


@dataclass(frozen=True)
class RemovalResult:
    documents: tuple[str, ...]
    chunks: int
    excluded: str = ""
    """A file that was never read, and will not be tried again."""


class KnowledgeAdmin:
    """The knowledge base as its user manages it. Raises `UsageError`, `ConfigError` and `RunFailed`.

    `everywhere` includes all workspaces. `resolve` finds and checks network addresses.
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
        self._named = NamedFiles(settings)
        self._here, self._user = own_scope(settings), user_scope(settings)
        self._seen = self._user if everywhere else self._here

    def listed(self) -> tuple[list[KnowledgeSource], list[StoredDocument]]:
        with self._opened() as base:
            return base.sources(), base.documents()

    def search(self, query: str, limit: int) -> list[FoundChunk]:
        with self._opened() as base:
            return base.search(query, limit)

    def add(self, wanted: Iterable[str], *, for_user: bool, on_document: OnDocument) -> "IngestRun":
        """Prepare to read files, folders and pages, for this workspace or for the user; `run` starts it.

        Paths are relative to the current folder.
        """
        return IngestRun(self, [self._user if for_user else self._here], list(wanted), on_document)

    def refresh(self, on_document: OnDocument) -> "IngestRun":
        """Prepare to read all visible sources again; `run` starts it."""
        with self._opened() as base:
            scopes = {source.scope.project: source.scope for source in base.sources()}
        return IngestRun(self, list(scopes.values()), None, on_document)

    def remove(self, wanted: str) -> RemovalResult:
        """Remove a source, a document, or all documents below a folder, and erase their text from the
        disk."""
        with self._opened() as base:
            ref, is_address = wanted, "://" in wanted
            sources, documents = base.sources(), base.documents()
            if not is_address:
                # Relative to the current folder, or else to the workspace, as `orch kb list` shows it.
                here, there = str(Path(wanted).expanduser().resolve()), str((self.root / wanted).resolve())
                known = {one.ref for one in sources} | {one.ref for one in documents}
                ref = there if there in known and here not in known else here
            named = [source for source in sources if source.ref == ref]
            others = [source for source in sources if source.ref != ref]
            below = KnowledgeSource(ref, "web" if is_address else "folder", self._seen)
            removed = [
                document
                for document in documents
                if document.ref == ref
                # Below a removed source, documents that were also added in another way stay.
                or (below.holds(document.ref) and not (named and _is_in_any(document, others)))
            ]
            if not named and not removed:
                return _exclude(base, ref, others, wanted)
            for other in others:
                excluded = [one.ref for one in removed if one.scope == other.scope and other.holds(one.ref)]
                if excluded:
                    base.exclude(other, excluded)
            return RemovalResult(tuple(one.ref for one in removed), base.remove(removed, named))

    @contextlib.contextmanager
    def _opened(self, scope: Scope | None = None) -> Iterator[KnowledgeBase]:
        try:
            with open_knowledge(self._settings, scope or self._seen, self._warn, self._dense) as base:
                yield base
        except MemoryFault as exc:
            raise RunFailed(f"The knowledge base cannot be used: {exc}") from exc

    @contextlib.contextmanager
    def ingester(self, scope: Scope, on_document: OnDocument) -> Iterator[Ingester]:
        """An ingester for one scope; at the end the vectors are made."""
        with self._opened(scope) as base, Converter(self._settings) as convert:
            yield Ingester(
                base,
                scope,
                convert=convert,
                fetch=self._fetch,
                refused=lambda path: bool(self._named.protection(path)),
                way_out=self._way_out,
                on_document=on_document,
            )
            base.embed()

    def _way_out(self, path: Path) -> str:
        if self._named.protection(path):
            return PROTECTED
        found = self._named.way_out(path)
        return f"{found.why}. {found.remedy}" if found else ""

    def _fetch(self, url: str) -> FetchedPage:
        import httpx

        if "@" in url.partition("://")[2].partition("/")[0]:
            raise UnreadableDocument("an address with a password is not kept")
        try:
            reply = fetch(url, self._resolve, MAX_BYTES + 1)
        except (ValueError, OSError, httpx.HTTPError, httpx.InvalidURL) as exc:
            raise UnreadableDocument(f"it cannot be fetched: {exc}"[:REASON_CHARS]) from exc
        if len(reply.body) > MAX_BYTES:
            raise UnreadableDocument(f"it is larger than {MAX_BYTES // 2**20} MB")
        return FetchedPage(reply.body, reply.media)


def _exclude(base: KnowledgeBase, ref: str, sources: Iterable[KnowledgeSource], wanted: str) -> RemovalResult:
    """Exclude a file of a folder that could never be read. Raises `UsageError` if there is no such file."""
    folders = [source for source in sources if source.type == "folder" and source.holds(ref)]
    if not folders or not is_file(Path(ref)):
        raise UsageError(f"The knowledge base has no {wanted}.", "List its contents with: orch kb list")
    for folder in folders:
        base.exclude(folder, [ref])
    return RemovalResult((), 0, excluded=ref)


def _is_in_any(document: StoredDocument, sources: Iterable[KnowledgeSource]) -> bool:
    return any(source.scope == document.scope and source.holds(document.ref) for source in sources)


class IngestRun:
    """Reads documents when `run` is called; `report` is the state so far, also after an interruption."""

    def __init__(
        self, admin: KnowledgeAdmin, scopes: list[Scope], names: list[str] | None, on_document: OnDocument
    ) -> None:
        self._admin = admin
        self._scopes = scopes
        self._names = names
        self._on_document = on_document
        self._reports: list[IngestReport] = []

    def run(self) -> IngestReport:
        for scope in self._scopes:
            with self._admin.ingester(scope, self._on_document) as ingester:
                self._reports.append(ingester.report)
                if self._names is None:
                    ingester.refresh()
                else:
                    ingester.add(self._names)
        return self.report

    @property
    def report(self) -> IngestReport:
        total = IngestReport()
        for part in self._reports:
            for name, value in vars(part).items():
                setattr(total, name, getattr(total, name) + value)
        return total
