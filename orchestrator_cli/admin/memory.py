"""What `orch memory` does: look into memory, add to it, forget, give away, take in, and move it.

To forget is to take the text from the disk: the record is deleted, which rebuilds the shard, and then each
file of the memory folder is looked through for the text. The journals of runs and fileLog.md are records of
what was done, not memory: they are looked through as well and named; who wants them gone removes them.

What is not covered: the storage of a Qdrant server, whose files are not here; what was sent to a model.
"""

import contextlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from memory import FACT, RUN, SESSION, TURN, Hit, MemoryFault, MemoryStore, Record, Scope, open_store, scrub
from memory.dense import asked, fill, lacking
from memory.embedder import terms
from memory.facts import Fact, Learned, facts_by_rule, learn
from memory.lines import Taken, as_lines, foreign, from_lines, take_in
from memory.migration import Migrated, migrate
from memory.profile import FADED, strength
from memory.records import TOOL, USAGE
from memory.retrieval import retrieve
from memory.traces import Traces, traces
from orchestrator_cli.errors import ConfigError, RunFailed, UsageError
from orchestrator_cli.recall.dense import open_dense
from orchestrator_cli.recall.run_memory import open_memory
from orchestrator_cli.recall.sessions import scope_of
from orchestrator_cli.settings import Settings

SHORT_ID = 8
LEAST_ID = 4
KINDS = (FACT, SESSION, TURN, RUN, TOOL, USAGE)
_ID = re.compile(rf"[0-9a-f-]{{{LEAST_ID},36}}")
_MOST_CHARS = 400
_BESIDE = 4
"""So many times what is wanted is looked up, as what only stands next to a hit falls away."""


@dataclass(frozen=True)
class Place:
    """A file that still holds what was forgotten, and how it is removed."""

    path: Path
    remedy: str


@dataclass(frozen=True)
class Forgotten:
    records: tuple[Record, ...]
    looked: Traces
    """What was looked through of the memory folder, and what of it still holds the text."""
    left: tuple[Record, ...]
    """Records that hold the text still: what an id names is not all that was said, nor is one workspace."""
    elsewhere: tuple[Place, ...]
    url: str | None
    """The server whose files are not here."""


@dataclass(frozen=True)
class Stats:
    where: str
    bytes: int
    """On this disk, and really so: holes in a file do not count."""
    kinds: dict[str, int]
    ended: int
    """Facts that hold no more."""
    faded: int
    """Passing facts that are not brought any more."""
    pinned: int
    untrusted: int
    workspaces: int
    dense: str | None
    """The model of embeddings that is set."""
    lacking: int
    """Records of all workspaces that have no vector of it yet."""
    vectors: dict[str, int]
    """The dense vectors there are, by their names."""
    set_aside: tuple[Path, ...]


@dataclass(frozen=True)
class Embedded:
    """What became of the records that had no vector."""

    made: int
    lacking: int


class MemoryKeeping:
    """Memory as its owner looks at it. Every method may raise `OrchError`.

    `warn` is told what stops nothing.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        everywhere: bool = False,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._warn = warn
        self._scope = Scope() if everywhere else scope_of(settings.workspace)

    def all(self, kinds: Sequence[str] = (), *, past: bool = False) -> list[Record]:
        """What is remembered, newest first; of the usual kinds where none is named."""
        _check_kinds(kinds)
        with self._open() as store:
            found = store.all(kinds, self._scope, at="ever" if past else "now")
        return found if kinds else [record for record in found if record.kind not in (TURN, "usage", "chunk")]

    def facts(self) -> list[Record]:
        return self.all((FACT,))

    def one(self, ident: str) -> Record:
        """The record whose id begins so, or the session of that name."""
        fitting = [record for record in self._every() if _is_called(record, ident)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise UsageError(f"{len(fitting)} records are called {ident}.", "Say more of the id.")
        raise UsageError(
            f"Nothing that is remembered is called {ident[:40]!r}.",
            f"orch memory list shows the ids, of which the first {LEAST_ID} characters are enough where they "
            "are one's alone; with --all those of other workspaces too.",
        )

    def search(self, text: str, *, limit: int, kinds: Sequence[str] = ()) -> list[Hit]:
        _check_kinds(kinds)
        wanted, dense = scrub(text), open_dense(self._settings, self._warn)
        with self._open() as store:
            near = asked(store, dense, wanted)
            hits = retrieve(store, wanted, kinds=kinds, scope=self._scope, limit=_BESIDE * limit, near=near)
        # A model is also given what was said next to it; who looks for a text would wonder why.
        words = terms(wanted)
        return [hit for hit in hits if near is not None or words & terms(hit.record.text)][:limit]

    def add(self, text: str, *, here: bool = False) -> Learned:
        """Keep a fact in the user's own words, for good."""
        said = scrub(" ".join(text.split()))
        if not 3 <= len(said) <= _MOST_CHARS:
            raise UsageError(
                f"A fact has between 3 and {_MOST_CHARS} characters; this one has {len(said)}.",
                "Say one thing at a time; put longer material into a file: orch kb add FILE.",
            )
        told = facts_by_rule([said]).facts
        # What no rule understands contradicts nothing, however it begins.
        about = told[0].attribute if len(told) == 1 else f"note {sha256(said.encode()).hexdigest()[:8]}"
        fact = Fact(subject="project" if here else "user", attribute=about, text=said, quote=said)
        with self._open() as store:
            return learn(
                store, [fact], scope=self._scope, now=datetime.now(UTC), ref="orch memory add", pinned=True
            )

    # --- forgetting

    def doomed(self, what: str) -> list[Record]:
        """What is meant: the record with that id, or all in which the text occurs as it is written.

        A session brings its turns along.
        """
        every = self._every()
        found = [record for record in every if _is_called(record, what)]
        if len(found) > 1:
            raise UsageError(f"{len(found)} records are called {what}.", "Say more of the id.")
        found = found or [record for record in every if _holds(record, what)]
        if not found:
            near = sum(_holds(record, what, exactly=False) for record in every)
            hint = f"{near} hold it in other letters: small and capital ones count. " if near else ""
            raise UsageError(
                f"Nothing that is remembered holds {what[:60]!r}.",
                f"{hint}Look for it: orch memory search TEXT",
            )
        gone = {(record.scope, record.key) for record in found if record.kind == SESSION}
        turns = [r for r in every if r.kind == TURN and (r.scope, r.session) in gone and r not in found]
        return [*found, *turns]

    def forget(self, records: Sequence[Record], what: str) -> Forgotten:
        """Delete the records, and look for what they said in all that is on the disk."""
        texts = _texts(records, what)
        with self._open() as store:
            for user in {record.scope.user for record in records}:
                store.delete([r.id for r in records if r.scope.user == user], Scope(user=user))
            # The engine compresses what it keeps: what the bytes do not show, the records do.
            left = tuple(r for r in store.every() if any(_holds(r, text) for text in texts))
        home = self._settings.home
        found = traces(home, texts)
        folder = home / "memory"
        inside = traces(folder, texts)
        elsewhere = [path for path in found.found if not path.is_relative_to(folder)]
        logs = {Path(r.scope.project) for r in records if r.scope.project} | {self._settings.workspace}
        held = [root / "fileLog.md" for root in sorted(logs) if _is_in(root / "fileLog.md", texts)]
        places = (Place(path, _remedy(path, home)) for path in (*elsewhere, *held))
        return Forgotten(tuple(records), inside, left, tuple(places), self._settings.memory.url)

    # --- moving

    def export(self, target: Path) -> int:
        """Write what is remembered, whether it holds or not, into a new file; how many records."""
        lines = list(as_lines(self._every()))
        try:
            target.touch(mode=0o600, exist_ok=False)
            target.write_text("".join(lines), encoding="utf-8")
        except FileExistsError as exc:
            raise UsageError(f"{target} is there already.", "Name a new file.") from exc
        except OSError as exc:
            # Half of an export would be in the way of the whole one; what is no file of ours is not there.
            with contextlib.suppress(OSError):
                target.unlink()
            raise UsageError(f"{target} cannot be written: {exc.strerror}.", "Name another file.") from exc
        return len(lines)

    def lines(self) -> Iterator[str]:
        return as_lines(self._every())

    def take_in(self, source: Path, *, mine: bool, replace: bool) -> Taken:
        """Take in what `export` wrote, all of it or, where a line is wrong, nothing.

        `-` is standard input.
        """
        try:
            data = sys.stdin.buffer.read() if str(source) == "-" else source.read_bytes()
            records = from_lines(data.decode("utf-8").split("\n"))
        except OSError as exc:
            raise UsageError(f"{source} cannot be read: {exc.strerror}.", "Name a file.") from exc
        except UnicodeDecodeError as exc:
            raise UsageError(f"{source} is no UTF-8 text.", "Name what orch memory export wrote.") from exc
        except ValueError as exc:
            raise UsageError(f"Nothing was taken in: {source} is no export of memory.\n{exc}", "") from exc
        with self._open() as store:
            return take_in(store, records if mine else [foreign(r) for r in records], replace=replace)

    def migrate(self, to: str, told: Callable[[int, int], None]) -> Migrated:
        """Bring all to the server of `memory.url`, or from there into the folder."""
        url, key = self._settings.memory.url, self._settings.memory.api_key
        if url is None:
            raise ConfigError(
                "No server is set, so there is nothing to move memory to or from.",
                "Set memory.url in your orch.toml, or ORCH_MEMORY__URL.",
            )
        with contextlib.ExitStack() as closing, _translated():
            folder = closing.enter_context(contextlib.closing(open_store(self._settings.home / "memory")))
            server = closing.enter_context(contextlib.closing(open_store(Path(), url=url, api_key=key)))
            source, target = (folder, server) if to == "server" else (server, folder)
            return migrate(source, target, told)

    def embed(self, told: Callable[[int, int], None], *, anew: bool = False) -> Embedded:
        """Make the vectors that are lacking of all that is remembered and of the knowledge base."""
        dense = open_dense(self._settings, self._warn)
        if dense is None:
            raise ConfigError(
                "No model of embeddings is set, so there are no vectors to make.",
                "Set memory.dense in your orch.toml, or ORCH_MEMORY__DENSE; see docs/memory.md.",
            )
        made = left = 0
        for open_one in self._stores():
            with open_one() as store:
                if anew:
                    store.drop(dense.name)
                done = fill(store, dense, Scope(), told=told)
                made, left = made + done.made, left + done.lacking
        return Embedded(made, left)

    def _stores(self) -> list[Callable[[], contextlib.AbstractContextManager[MemoryStore]]]:
        """Memory, and the knowledge base where it lies in a folder of its own."""
        folder = self._settings.home / "knowledge"
        apart = self._settings.memory.url is None and folder.is_dir()
        return [self._open, lambda: self._open_folder(folder)] if apart else [self._open]

    def stats(self) -> Stats:
        now, url = datetime.now(UTC), self._settings.memory.url
        with self._open() as store:
            every = [r for r in store.every() if self._scope.covers(r.scope)]
            vectors, model = store.vectors(), self._settings.memory.dense
            without = lacking(store, model, Scope()) if model else 0
        facts = [record for record in every if record.kind == FACT]
        folder = self._settings.home / "memory"
        files = [path for path in folder.rglob("*") if path.is_file()]
        return Stats(
            where=url or str(folder),
            bytes=sum(path.stat().st_blocks * 512 for path in files),
            kinds=dict(sorted(Counter(record.kind for record in every).items())),
            ended=sum(not record.holds(now) for record in facts),
            faded=sum(record.holds(now) and strength(record, now) < FADED for record in facts),
            pinned=sum(record.pinned for record in every),
            untrusted=sum(not record.trusted for record in every),
            workspaces=len({record.scope.project for record in every if record.scope.project}),
            dense=model,
            lacking=without,
            vectors=vectors,
            set_aside=tuple(sorted(folder.glob("shard.corrupt-*"))),
        )

    def _every(self) -> list[Record]:
        """All of the scope, newest first, whether it holds or not."""
        with self._open() as store:
            return store.all((), self._scope, at="ever")

    @contextlib.contextmanager
    def _open_folder(self, folder: Path) -> Iterator[MemoryStore]:
        with _translated(), contextlib.closing(open_store(folder)) as store:
            yield store

    @contextlib.contextmanager
    def _open(self) -> Iterator[MemoryStore]:
        with _translated(), contextlib.closing(open_memory(self._settings, lambda _: None)) as store:
            yield store


def _check_kinds(kinds: Iterable[str]) -> None:
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UsageError(f"Nothing of the kind {unknown[0]!r} is remembered.", f"Say {', '.join(KINDS)}.")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except MemoryFault as exc:
        raise RunFailed(f"Memory: {exc}", "See: orch doctor") from exc


def _is_called(record: Record, ident: str) -> bool:
    if record.kind == SESSION and record.key == ident:
        return True
    wanted = ident.lower()
    return _ID.fullmatch(wanted) is not None and str(record.id).startswith(wanted)


def _holds(record: Record, text: str, *, exactly: bool = True) -> bool:
    kept, wanted = record.model_dump_json(), json.dumps(text, ensure_ascii=False)[1:-1]
    return wanted in kept if exactly else wanted.casefold() in kept.casefold()


def _texts(records: Iterable[Record], what: str) -> list[str]:
    """What to look for on the disk: the text that was named, or what the records of an id said."""
    records = list(records)
    if not any(_is_called(record, what) for record in records):
        return [what]
    said = [str(record.data.get("text") or record.text) for record in records]
    quotes = [record.source.quote for record in records if record.source is not None and record.kind == FACT]
    return [text for text in dict.fromkeys((*said, *quotes)) if text.strip()] or [what]


def _is_in(path: Path, texts: Iterable[str]) -> bool:
    """Whether a log holds one of the texts; of several lines the longest is looked for."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    longest = [max(text.splitlines(), key=len).strip() for text in texts if text.strip()]
    return any(line.encode("utf-8", "replace") in content for line in longest if line)


def _remedy(path: Path, home: Path) -> str:
    inside = path.relative_to(home).parts if path.is_relative_to(home) else ()
    match inside:
        case ("demo", *_):
            return f"rm -r {home / 'demo'}"
        case ("runs", run, *_):
            return f"rm -r {home / 'runs' / run}   (the run can then be neither resumed nor undone)"
        case ("history",):
            return "it is what you typed: take the line out with an editor"
        case ("knowledge", *_):
            return "orch kb remove SOURCE"
        case ("tools", *_):
            return "a built tool: orch tools remove NAME"
        case ():
            return "take it out with an editor; orch log verify will name the entry as altered"
    return "remove the file while nothing of orch runs"
