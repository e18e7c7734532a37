"""A knowledge base: documents on real files are read once, found, cited, looked at again and forgotten."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook
from unprivileged import bound_by_modes

from memory import CHUNK, MemoryStore, Scope, open_store
from memory.knowledge import KnowledgeBase
from memory.knowledge.base import PART_CHUNKS
from memory.knowledge.documents import UnreadableDocument
from memory.knowledge.formats import read_document, read_on
from memory.knowledge.ingest import BATCH_DOCUMENTS, FetchedPage, Ingester, IngestReport

HERE = Scope(project="here")
RENT = "# House rules\n\n## Rent\n\nThe rent is due on the third day of each month.\n"
LONG = "".join(f"## Rule {n}\n\n{f'The {n}th rule forbids crocodiles. ' * 30}\n\n" for n in range(6))


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "rules.md").write_text(RENT)
    (folder / "long.md").write_text(LONG)
    (folder / "count.py").write_text('def count_zebras(x):\n    """Counts."""\n    return len(x)\n')
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MemoryStore]:
    opened = open_store(tmp_path / "knowledge")
    yield opened
    opened.close()


@pytest.fixture
def base(store: MemoryStore) -> KnowledgeBase:
    return KnowledgeBase(store, HERE)


class Converting:
    """What the sandbox does, done here on files of our own, and how often."""

    def __init__(self, folder: Path) -> None:
        self.calls = 0
        self._path = folder / "document"

    def __call__(self, data: bytes, form: str) -> Mapping[str, Any]:
        self.calls += 1
        self._path.write_bytes(data)
        try:
            reply = more = read_document(str(self._path), form)
            while more.get("more"):
                more = read_on()
                reply["parts"] += more["parts"]
            return reply
        except Exception as exc:
            raise UnreadableDocument(str(exc)) from exc


@pytest.fixture
def convert(tmp_path: Path) -> Converting:
    return Converting(tmp_path)


def no_page(url: str) -> FetchedPage:
    raise UnreadableDocument("it cannot be fetched")


@pytest.fixture
def gather(base: KnowledgeBase, convert: Converting) -> Any:
    def begin(scope: Scope = HERE, **more: Any) -> Ingester:
        return Ingester(base, scope, convert=convert, fetch=more.pop("fetch", no_page), **more)

    return begin


def test_rules_above_the_folder_that_are_not_obeyed_are_reported(gather: Any, notes: Path) -> None:
    (notes.parent / ".git").mkdir()
    (notes.parent / ".gitignore").symlink_to("/dev/zero")
    report = gather().add([str(notes)])
    assert report.added
    assert [Path(ref).name for ref, why in report.skipped if "rules" in why] == [".gitignore"]


def names(refs: list[str]) -> list[str]:
    return sorted(Path(ref).name for ref in refs)


def test_added_documents_are_found_with_their_position(base: KnowledgeBase, gather: Any, notes: Path) -> None:
    outcome: IngestReport = gather().add([str(notes)])
    assert names(outcome.added) == ["count.py", "long.md", "rules.md"]
    assert (outcome.faults, outcome.skipped) == ([], [])
    (found, *_) = base.search("When is the rent due?")
    assert (found.ref, found.title, found.where) == (str(notes / "rules.md"), "House rules", "lines 1-5")
    assert found.headings == ("House rules", "Rent")
    (code, *_) = base.search("count zebras")
    assert (code.ref, code.headings) == (str(notes / "count.py"), ("count_zebras",))


def test_reading_continues_after_a_hit(base: KnowledgeBase, gather: Any, notes: Path) -> None:
    gather().add([str(notes)])
    pieces = base.read(str(notes / "long.md"), 2, 3)
    assert [piece.part for piece in pieces] == [2, 3, 4]
    assert "Rule 2" in pieces[0].text
    assert base.read(str(notes / "long.md"), 90) == []


def test_unchanged_documents_are_not_converted_again(
    base: KnowledgeBase, gather: Any, notes: Path, convert: Converting
) -> None:
    gather().add([str(notes)])
    calls, before = convert.calls, base.documents()
    outcome: IngestReport = gather().refresh()
    assert (len(outcome.unchanged), outcome.written, convert.calls) == (3, 0, calls)
    assert base.documents() == before


def test_only_changed_chunks_are_written_and_deleted(
    base: KnowledgeBase, gather: Any, notes: Path, tmp_path: Path
) -> None:
    gather().add([str(notes)])
    before = len(base.read(str(notes / "long.md"), 0, 99))
    (notes / "long.md").write_text(LONG.replace("The 3th rule forbids", "The third forbids"))
    outcome: IngestReport = gather().refresh()
    assert (names(outcome.changed), outcome.written, outcome.deleted) == (["long.md"], 1, 1)
    assert len(base.read(str(notes / "long.md"), 0, 99)) == before
    assert b"The 3th rule" not in everything(tmp_path / "knowledge")


def test_moved_chunks_get_their_new_position(base: KnowledgeBase, gather: Any, notes: Path) -> None:
    gather().add([str(notes / "rules.md")])
    (notes / "rules.md").write_text(f"\n\n{RENT}")
    outcome: IngestReport = gather().refresh()
    assert (outcome.written, outcome.deleted) == (1, 0)
    assert base.search("rent")[0].where == "lines 3-7"


def test_refresh_adds_new_and_removes_missing_files(
    base: KnowledgeBase, gather: Any, notes: Path, tmp_path: Path
) -> None:
    gather().add([str(notes)])
    (notes / "rules.md").unlink()
    (notes / "more.txt").write_text("Owls hunt at night.")
    outcome: IngestReport = gather().refresh()
    assert (names(outcome.added), names(outcome.removed)) == (["more.txt"], ["rules.md"])
    assert base.search("rent") == []
    assert b"third day of each month" not in everything(tmp_path / "knowledge")


def test_a_missing_folder_keeps_its_documents(base: KnowledgeBase, gather: Any, notes: Path) -> None:
    gather().add([str(notes)])
    notes.rename(notes.with_name("unmounted"))
    outcome: IngestReport = gather().refresh()
    assert outcome.removed == []
    assert outcome.faults[0][0] == str(notes)
    assert base.search("rent")


def test_an_unlistable_subfolder_keeps_its_documents(base: KnowledgeBase, gather: Any, notes: Path) -> None:
    (notes / "shut").mkdir()
    (notes / "shut/owls.md").write_text("Owls hunt at night.")
    gather().add([str(notes)])
    (notes / "shut").chmod(0o000)
    (notes / "rules.md").unlink()
    with bound_by_modes():
        outcome: IngestReport = gather().refresh()
    (notes / "shut").chmod(0o700)
    assert names(outcome.removed) == ["rules.md"]
    assert outcome.faults == [(str(notes / "shut"), "it cannot be listed: Permission denied")]
    assert base.search("owls")


def test_an_inaccessible_folder_keeps_its_documents(base: KnowledgeBase, gather: Any, notes: Path) -> None:
    file = str(notes / "rules.md")
    gather().add([file])
    notes.chmod(0o600)
    with bound_by_modes():
        again: IngestReport = gather().refresh()
        named: IngestReport = gather().add([file])
    notes.chmod(0o700)
    assert (again.removed, again.faults) == ([], [(file, "it cannot be read: Permission denied")])
    assert named.faults == again.faults
    assert base.search("rent")


def test_an_unreadable_file_keeps_its_document(base: KnowledgeBase, gather: Any, notes: Path) -> None:
    gather().add([str(notes)])
    (notes / "rules.md").write_bytes(b"\0\0\0")
    outcome: IngestReport = gather().refresh()
    assert outcome.faults == [(str(notes / "rules.md"), "it is neither text nor a supported format")]
    assert base.search("rent")


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.doc", b"\xd0\xcf\x11\xe0 old", "save it as .docx"),
        ("a.pdf", b"%PDF-1.7 nonsense", "Stream has ended"),
        ("a.docx", b"PK no zip", "zip"),
    ],
)
def test_a_broken_file_is_reported_and_others_are_read(
    gather: Any, notes: Path, name: str, data: bytes, reason: str
) -> None:
    (notes / name).write_bytes(data)
    outcome: IngestReport = gather().add([str(notes)])
    assert len(outcome.added) == 3
    ((ref, why),) = outcome.faults
    assert (Path(ref).name, reason in why) == (name, True), why


def test_other_encodings_are_read(base: KnowledgeBase, gather: Any, notes: Path) -> None:
    text = "Die Miete für das Haus an der Brücke wird am dritten Tag fällig, sagt der Vermieter. " * 5
    (notes / "old.txt").write_bytes(text.encode("cp1252"))
    (notes / "new.txt").write_bytes("Eulen jagen über Nacht".encode("utf-16"))
    assert gather().add([str(notes)]).faults == []
    assert "Brücke" in base.search("Vermieter")[0].text
    assert base.search("Eulen")[0].text == "Eulen jagen über Nacht"


def test_keys_are_not_stored(gather: Any, notes: Path, tmp_path: Path) -> None:
    key = "sk-" + "a1B2" * 8
    (notes / "secret.md").write_text(f"The service takes {key} as its key.")
    gather().add([str(notes)])
    assert key.encode() not in everything(tmp_path / "knowledge")


def test_a_project_sees_its_own_documents_and_those_of_the_user(
    store: MemoryStore, gather: Any, notes: Path
) -> None:
    gather().add([str(notes / "rules.md")])
    gather(Scope()).add([str(notes / "long.md")])
    there = KnowledgeBase(store, Scope(project="there"))
    assert [Path(known.ref).name for known in there.documents()] == ["long.md"]
    assert there.search("rent") == []
    assert len(KnowledgeBase(store, HERE).documents()) == 2


def test_pages_are_refreshed_and_kept_if_unreachable(base: KnowledgeBase, gather: Any) -> None:
    pages = {"https://example.org/bees": b"<title>Bees</title><p>Bees make honey.</p>"}

    def fetch(url: str) -> FetchedPage:
        return FetchedPage(pages[url], "text/html; charset=utf-8")

    gather(fetch=fetch).add(list(pages))
    (found,) = base.search("honey")
    assert (found.ref, found.title, found.where) == ("https://example.org/bees", "Bees", "part 0")
    assert gather(fetch=fetch).refresh().unchanged == list(pages)
    outcome: IngestReport = gather().refresh()
    assert outcome.faults == [("https://example.org/bees", "it cannot be fetched")]
    assert base.search("honey")


@pytest.mark.parametrize(
    ("address", "media"),
    [
        ("https://example.org/costs.xlsx?version=2", "application/octet-stream"),
        ("https://example.org/costs.xlsx", "application/zip"),
        ("https://example.org/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ],
)
def test_office_files_on_the_web_are_recognised(
    base: KnowledgeBase, gather: Any, address: str, media: str
) -> None:
    book = Workbook()
    book.active.append(["boiler", 1200])
    book.save(file := BytesIO())
    outcome: IngestReport = gather(fetch=lambda _: FetchedPage(file.getvalue(), media)).add([address])
    assert (outcome.added, outcome.faults) == ([address], [])
    assert base.search("boiler")[0].ref == address


def test_an_interruption_keeps_finished_documents(base: KnowledgeBase, gather: Any, notes: Path) -> None:
    def note_document(ref: str, of: int, share: float) -> None:
        if ref.endswith("rules.md"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        gather(on_document=note_document).add([str(notes)])
    assert [Path(known.ref).name for known in base.documents()] == ["count.py", "long.md"]
    assert names(gather().refresh().added) == ["rules.md"]


KILLED = """
import os, signal, sys
from pathlib import Path
from memory import Scope, open_store
from memory.knowledge.ingest import BATCH_DOCUMENTS, Ingester
from memory.knowledge import KnowledgeBase

seen = []

def report(ref, of, share):
    seen.append(ref)
    if len(seen) == BATCH_DOCUMENTS + 10:
        os.kill(os.getpid(), signal.SIGKILL)

scope = Scope(project="here")
base = KnowledgeBase(open_store(Path(sys.argv[1])), scope)
Ingester(base, scope, convert=None, fetch=None, on_document=report).add([sys.argv[2]])
"""


def test_a_kill_loses_only_unfinished_documents(
    base: KnowledgeBase, gather: Any, notes: Path, tmp_path: Path
) -> None:
    (notes / "count.py").unlink()
    for n in range(BATCH_DOCUMENTS + 20):
        (notes / f"a{n:03}.txt").write_text(f"The number of this note is n{n}.")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "knowledge"), str(notes)],
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == -signal.SIGKILL
    assert len(base.documents()) == BATCH_DOCUMENTS
    outcome: IngestReport = gather().refresh()
    assert (len(outcome.unchanged), len(outcome.added)) == (BATCH_DOCUMENTS, 22)
    assert [found.text for found in base.search("n219", 1)] == ["The number of this note is n219."]


def test_removed_documents_are_erased_from_the_disk(
    base: KnowledgeBase, store: MemoryStore, gather: Any, notes: Path, tmp_path: Path
) -> None:
    gather().add([str(notes)])
    assert b"crocodiles" in everything(tmp_path / "knowledge")
    base.remove(base.documents(), base.sources())
    assert (base.documents(), base.sources(), store.count(CHUNK, Scope())) == ([], [], 0)
    assert not base
    assert b"crocodiles" not in everything(tmp_path / "knowledge")


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


CODE = "function bees(a) { return a.map((b) => b.honey) }\n"


def test_minified_code_is_left_out_unless_it_is_named(gather: Any, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    files = {"app.js": CODE * 99, "page.css": CODE, "data.json": CODE.strip() * 99}
    minified = {"a.min.js": CODE, "bundle.js": CODE.strip() * 99, "a.min.css": "b{}", "app.js.map": "{}"}
    for name, text in (files | minified).items():
        (site / name).write_text(text)
    report: IngestReport = gather().add([str(site)])
    assert (names(report.added), report.faults) == (sorted(files), [])
    assert names([ref for ref, why in report.skipped if "minified" in why]) == sorted(minified)
    assert names(gather().add([str(site / "bundle.js")]).added) == ["bundle.js"]


def test_code_that_is_minified_now_is_forgotten(base: KnowledgeBase, gather: Any, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "app.js").write_text(CODE * 99)
    gather().add([str(site)])
    (site / "app.js").write_text(CODE.strip() * 99)
    report: IngestReport = gather().refresh()
    assert (names(report.removed), report.faults, base.documents()) == (["app.js"], [], [])


def long_text(size: int) -> str:
    line = "Bee number {} is called Maja, and lives in a hive of straw by the river.\n\n"
    return "".join(line.format(n) for n in range(size // len(line)))


@pytest.mark.parametrize("size", [1_500_000, pytest.param(45_000_000, marks=pytest.mark.thorough)])
def test_a_long_text_is_stored_in_parts(base: KnowledgeBase, gather: Any, tmp_path: Path, size: int) -> None:
    (tmp_path / "long.txt").write_text(long_text(size))
    shares: list[float] = []
    report: IngestReport = gather(on_document=lambda _ref, _count, share: shares.append(share)).add(
        [str(tmp_path / "long.txt")]
    )
    (document,) = base.documents()
    assert (report.faults, report.written) == ([], document.chunks)
    assert (len(shares), shares) == (1 + document.chunks // PART_CHUNKS, sorted(shares))
    assert "number 17000 " in base.search("bee number 17000")[0].text
    assert gather().refresh().unchanged == [document.ref]


def test_a_long_text_that_is_interrupted_can_be_removed_and_is_read_again(
    base: KnowledgeBase, gather: Any, notes: Path
) -> None:
    (notes / "long.txt").write_text(long_text(1_500_000))

    def stop(ref: str, of: int, share: float) -> None:
        if share:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gather(on_document=stop).add([str(notes)])
    (document,) = (known for known in base.documents() if known.ref.endswith("long.txt"))
    assert 0 < base.remove([document]) <= PART_CHUNKS
    assert "long.txt" in names(gather().refresh().added)
