"""Files within files, such as attachments of e-mails, are documents of their own, and none leads out."""

import io
import itertools
import json
import stat
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from email.message import EmailMessage
from pathlib import Path

import pytest
from command import Orch
from made_files import docx, packed, paragraph, pdf

from memory import Scope, open_store
from memory.knowledge import KnowledgeBase, containers, nested
from memory.knowledge.documents import UnreadableDocument
from memory.knowledge.ingest import FetchedPage, Ingester
from memory.knowledge.nested import ReadDocument, read_file
from orchestrator_cli.recall.converter import Converter
from orchestrator_cli.settings import load_settings

Named = list[tuple[str, bytes]]


@pytest.fixture(scope="module")
def convert(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Converter]:
    with Converter(load_settings({}, tmp_path_factory.mktemp("workspace"))) as converter:
        yield converter


def mail(body: str, attached: dict[str, bytes], subject: str = "Bees") -> EmailMessage:
    made = EmailMessage()
    made["Subject"], made["From"] = subject, "ann@example.org"
    made.set_content(body)
    made.add_alternative(f"<p>{body}</p>", subtype="html")
    for name, content in attached.items():
        made.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return made


def archive_of(files: Named) -> bytes:
    """A ZIP file in which a name may be there again."""
    made = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore", UserWarning)
        for name, content in files:
            archive.writestr(name, content)
    return made.getvalue()


def mail_of(files: Named) -> bytes:
    made = mail("See below.", {})
    for name, content in files:
        made.add_attachment(content, maintype="text", subtype="plain", filename=name)
    return made.as_bytes()


def texts(found: list[ReadDocument]) -> dict[str, str]:
    return {one.place: "".join(part.text for part in one.document.parts) for one in found}


def test_attachments_of_a_mail_are_documents_of_their_own(convert: Converter) -> None:
    made = mail("See below.", {"wax.pdf": pdf("Wax is hard"), "a/b.md": b"# Hives", "x.bin": b"\0\1"})
    made.add_attachment(mail("Older.", {"bees.docx": docx(paragraph("Sweet"))}, "Before"))
    found = read_file("bees.eml", made.as_bytes(), convert)
    read = texts(found)
    assert list(read) == ["", "wax.pdf", "a_b.md", "part-4.eml", "part-4.eml/bees.docx"]
    assert ("See below." in read[""], read["wax.pdf"].strip()) == (True, "Wax is hard")
    assert (read["a_b.md"], read["part-4.eml/bees.docx"]) == ("# Hives", "Sweet")
    assert [one.document.title for one in found[1:4]] == ["wax.pdf", "Hives", "Before"]
    (unread,) = found[0].document.unread
    assert unread.startswith("x.bin (")


def test_files_of_an_archive_are_read_and_others_are_named(convert: Converter) -> None:
    broken = zipfile.ZipInfo("link.md")
    broken.external_attr = (stat.S_IFLNK | 0o777) << 16
    inner = packed({"deep.md": "# Deep"})
    files = {"notes/bees.md": "# Sweet", "in.zip": inner, ".git/config": "x", "empty.md": ""}
    made = io.BytesIO(packed(files))
    with zipfile.ZipFile(made, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("folder")
        for name in ("../out.md", "/etc/out.md", "c:/out.md", "a/./out.md", "..\\out.md"):
            archive.writestr(name, "out")
        archive.writestr(broken, "/etc/passwd")
        archive.writestr("bomb.md", b"a" * 5_000_000)
        archive.writestr("scan.pdf", pdf("", "Bees make honey, and wax"))
    refused = {"in.zip/deep.md": "no"}
    found = read_file("bees.zip", made.getvalue(), convert, refused=lambda place: refused.get(place, ""))
    assert list(texts(found)) == ["", "notes/bees.md", "in.zip", "scan.pdf"]
    unread = found[0].document.unread
    outside = ["../out.md", "/etc/out.md", "c:/out.md", "a/./out.md", "../out.md"]
    assert sorted(why.split(" (")[0] for why in unread) == sorted(
        [*outside, "link.md", "bomb.md", "empty.md", "in.zip/deep.md"]
    )
    assert "page 1" in found[3].document.unread[0]


def test_a_password_and_damage_concern_one_file(convert: Converter) -> None:
    data = bytearray(packed({"a.md": "# Alpha alpha alpha", "b.md": "# Beta"}))
    data[data.index(b"a.md") + 6] ^= 0xFF  # in what is packed
    found = read_file("bees.zip", bytes(data), convert)
    assert list(texts(found)) == ["", "b.md"]
    locked = bytearray(packed({"a.md": "# Alpha"}))
    locked[locked.index(b"PK\1\2") + 8] |= 1
    (own,) = read_file("bees.zip", bytes(locked), convert)
    assert "password" in own.document.unread[0]


def test_number_size_and_depth_are_bounded(convert: Converter) -> None:
    data = packed({"deep.md": "# Deep"})
    for _ in range(nested.MAX_DEPTH + 1):
        data = packed({"in.zip": data, "by.md": "# By"})
    found = read_file("bees.zip", data, convert)
    assert max(one.place.count("/") for one in found) == nested.MAX_DEPTH
    assert "deep" in found[0].document.unread[0]
    files, unread = convert.files(packed({f"{n}.md": "x" * 10 for n in range(9)}), "zip", 5, 1_000)
    assert (len(files), len(unread)) == (5, 4)
    files, unread = convert.files(packed({f"{n}.md": "x" * 10 for n in range(9)}), "zip", 50, 45)
    assert (len(files), len(unread)) == (4, 5)


def test_files_that_are_refused_count(convert: Converter) -> None:
    keys = archive_of([("id_rsa", b"KEY")] * nested.MAX_FILES)
    data = packed({"keys.zip": keys, "z.zip": packed({"a.md": "# A"})})
    found = read_file("bees.zip", data, convert, refused=lambda place: "no" if "id_rsa" in place else "")
    assert "z.zip/a.md" not in texts(found)


@pytest.mark.parametrize("data", [b"PK\3\4 nothing", packed({})])
def test_an_archive_with_nothing_to_read_says_so(convert: Converter, data: bytes) -> None:
    with pytest.raises(UnreadableDocument):
        read_file("bees.zip", data, convert)


def test_a_file_that_is_larger_than_its_list_says_is_not_unpacked(convert: Converter) -> None:
    data = bytearray(packed({"bomb.md": b"a" * 50_000_000}))
    entry = data.index(b"PK\1\2")
    data[entry + 24 : entry + 28] = (1_000).to_bytes(4, "little")
    (own,) = read_file("bees.zip", bytes(data), convert)
    assert own.document.unread[0].startswith("bomb.md (")


@pytest.mark.parametrize(("form", "made"), [("zip", archive_of), ("eml", mail_of)])
def test_protection_is_by_the_own_name_of_a_file_and_its_folders(
    convert: Converter, form: str, made: Callable[[Named], bytes]
) -> None:
    inner = archive_of([("id_rsa", b"KEY"), ("id_rsa", b"KEY"), ("ok.md", b"# Ok")])
    names = ["id_rsa", "id_rsa", "keys/deep/a.md", "b.md", ".env", ".env", "sub/.netrc", "x/id_rsa"]
    data = made([*((name, b"KEY or text") for name in names), ("in.zip", inner), ("in.zip", inner)])
    seen = list[str]()

    def refused(place: str) -> str:
        seen.append(place)
        return "no" if place.rpartition("/")[2] in ("id_rsa", "keys") else ""

    found = read_file(f"bees.{form}", data, convert, refused=refused)
    assert list(texts(found)) == ["", "b.md", "in.zip", "in.zip/ok.md", "in-2.zip", "in-2.zip/ok.md"]
    unread = "".join(found[0].document.unread)
    assert (unread.count("id_rsa"), ".env" in unread, "in-2.zip" in "".join(seen)) == (7, False, False)
    assert "id_rsa" not in texts(found)[""]


def test_no_two_files_have_one_place(convert: Converter) -> None:
    inner = archive_of([("x.md", b"of in.zip"), ("y.md", b"y")])
    names = ["a.txt", "a-2.txt", "a.txt", "a.txt", "in.zip/x.md"]
    data = archive_of([*((name, f"{n} {name}".encode()) for n, name in enumerate(names)), ("in.zip", inner)])
    found = texts(read_file("bees.zip", data, convert))
    places = ["", "a.txt", "a-2.txt", "a-3.txt", "a-4.txt"]
    assert list(found) == [*places, "in.zip/x.md", "in.zip", "in.zip/x-2.md", "in.zip/y.md"]
    assert [found[place][0] for place in places[1:]] == ["0", "1", "2", "3"]
    assert (found["in.zip/x.md"], found["in.zip/x-2.md"]) == ("4 in.zip/x.md", "of in.zip")


def test_what_is_packed_like_a_bomb_as_a_whole_is_not_read(convert: Converter) -> None:
    bomb = packed({f"{n}.md": b"a" * containers.LARGE for n in range(3)})
    found = read_file("bees.zip", packed({"in.zip": bomb, "b.md": "# B"}), convert)
    assert list(texts(found)) == ["", "b.md"]
    assert found[0].document.unread[0].startswith("in.zip (")


def test_a_list_with_too_many_names_is_not_looked_at(convert: Converter) -> None:
    made = bytearray(archive_of([("b.md", b"# B"), ("d/", b"")]))
    end = made.index(b"PK\5\6")
    entry = made[made.rindex(b"PK\1\2") : end]
    more = entry * containers.MAX_ENTRIES
    size = int.from_bytes(made[end + 12 : end + 16], "little") + len(more)
    made[end + 12 : end + 16] = size.to_bytes(4, "little")
    made[end:end] = more
    began = time.process_time()
    with pytest.raises(UnreadableDocument, match=f"{containers.MAX_ENTRIES:,}"):
        read_file("bees.zip", bytes(made), convert)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(("form", "made"), [("zip", archive_of), ("mail", mail_of)])
def test_a_file_is_parsed_once_for_all_that_is_in_it(
    tmp_path: Path, convert: Converter, form: str, made: Callable[[Named], bytes]
) -> None:
    large = (b"%d\n" * 1_000_000) % tuple(range(1_000_000))
    files = [*((f"{n}.md", b"# Bees %d" % n) for n in range(99)), ("large.txt", large), ("z.md", b"# Z")]
    assert convert.files(made(files), form, 200, 2**25) == (files, [])
    path = tmp_path / "bees"
    path.write_bytes(made(files))
    containers.list_files(str(path), form, 200, 2**25)
    path.unlink()
    first, second, after = (containers.read_on() for _ in range(3))
    assert (first["more"], second["more"], after["pieces"]) == (True, False, [])
    assert {number for number, *_ in second["pieces"]} >= {first["pieces"][-1][0]}


def test_the_time_of_one_file_is_bounded(convert: Converter) -> None:
    ticks = itertools.count(step=nested.MAX_SECONDS // 2)
    data = packed({f"{n}.md": f"# {n}" for n in range(4)})
    found = read_file("bees.zip", data, convert, clock=lambda: next(ticks))
    assert list(texts(found)) == ["", "0.md", "1.md"]
    assert [why[:6] for why in found[0].document.unread] == ["2.md (", "3.md ("]


# --- in the knowledge base


def test_what_is_within_a_file_of_the_web_is_no_page(convert: Converter, tmp_path: Path) -> None:
    address = "https://example.org/bees"
    pages = {
        address: FetchedPage(packed({"honey": "# Honey", "wax.md": "# Wax"}), "application/zip"),
        f"{address}/honey": FetchedPage(b"<p>Sweet</p>", "text/html"),
    }
    with closing(open_store(tmp_path / "knowledge")) as store:
        base = KnowledgeBase(store, Scope())

        def ingester() -> Ingester:
            return Ingester(base, Scope(), convert=convert, fetch=pages.__getitem__)

        inner = [f"{address}#/honey", f"{address}#/wax.md"]
        assert ingester().add(list(pages)).added == [address, *inner, f"{address}/honey"]
        pages[address] = FetchedPage(packed({"honey": "# Honey"}), "application/zip")
        report = ingester().refresh()
        assert (report.removed, report.changed) == (inner[1:], [address, inner[0]])
        assert report.unchanged == [f"{address}/honey"]


def sources(orch: Orch) -> dict[str, object]:
    listed = orch("kb", "list", "--json").envelope["documents"]
    return {str(Path(row["source"]).relative_to(orch.workspace)): row["within"] for row in listed}


def test_protected_files_in_archives_and_mails_are_not_found(orch: Orch) -> None:
    names = ["id_rsa", "id_rsa", ".netrc", ".netrc", ".npmrc", ".npmrc", "ok.md"]
    files = [(name, b"giraffe of " + name.encode()) for name in names]
    (orch.workspace / "bees.zip").write_bytes(archive_of(files))
    (orch.workspace / "bees.eml").write_bytes(mail_of(files))
    orch("kb", "add", "bees.zip", "bees.eml")
    assert sorted(sources(orch)) == ["bees.eml", "bees.eml/ok.md", "bees.zip", "bees.zip/ok.md"]


def test_what_is_within_a_file_is_found_and_forgotten_by_its_place(orch: Orch) -> None:
    place = orch.workspace / "mails"
    place.mkdir()
    file = place / "bees.zip"
    first = mail("Hello", {"hive.md": b"# Hives\n\nOf straw"})
    file.write_bytes(packed({"a.eml": first.as_bytes(), "b.md": "# B"}))
    done = orch("kb", "add", "mails", "--json")
    assert (done.code, len(done.envelope["added"])) == (0, 4)
    (hit, *_) = json.loads(orch("kb", "search", "straw hives", "--json").out)
    assert hit["cite"] == "[Hives, mails/bees.zip/a.eml/hive.md, lines 1-3]"
    again = orch("kb", "refresh", "--json").envelope
    assert (again["unchanged"], again["removed"]) == (4, [])

    orch("kb", "remove", "mails/bees.zip/b.md")
    file.write_bytes(packed({"a.eml": mail("Hello", {}).as_bytes(), "b.md": "# B, again", "c.md": "# C"}))
    report = orch("kb", "refresh", "--json").envelope
    assert [Path(ref).name for ref in report["removed"]] == ["hive.md"]
    assert sorted(sources(orch)) == ["mails/bees.zip", "mails/bees.zip/a.eml", "mails/bees.zip/c.md"]
    file.unlink()
    assert len(orch("kb", "refresh", "--json").envelope["removed"]) == 3
    assert sources(orch) == {}
