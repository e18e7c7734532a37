"""The file tools: text in and out of the checkout, and no way out of it."""

import codecs
import contextlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_cli.tools.files import MAX_CHARS, MAX_FOUND, MAX_SEARCHED, file_tools


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside.txt").write_text("secret")
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a.txt").write_text("hällo", encoding="utf-8")
    (root / "link").symlink_to(tmp_path / "outside.txt")
    (root / "folder-link").symlink_to(tmp_path)
    (root / "inner-link").symlink_to("sub/a.txt")
    return root


BAD = [
    "../outside.txt",
    "sub/../../outside.txt",
    "link",
    "folder-link/outside.txt",
    "inner-link",
    "folder-link",
    ".git/config",
    "sub/.env",
    ".env.local",
    "fileLog.md",
    "orch.toml",
    "a\0b",
    "/etc/hostname",
]


@pytest.mark.parametrize("path", BAD)
def test_no_path_leads_out_or_to_a_protected_file(root: Path, path: str) -> None:
    tools = file_tools(root)
    for call in (lambda: tools["read_file"](path), lambda: tools["write_file"](path, "changed")):
        with pytest.raises((ValueError, OSError)):
            call()
    assert (root.parent / "outside.txt").read_text() == "secret"
    assert (root / "sub" / "a.txt").read_text(encoding="utf-8") == "hällo"


@given(path=st.text(st.sampled_from("a./\\ ~-"), max_size=12))
def test_whatever_path_is_written_nothing_outside_changes(
    tmp_path_factory: pytest.TempPathFactory, path: str
) -> None:
    top = tmp_path_factory.mktemp("any")
    (top / "root").mkdir()
    with contextlib.suppress(ValueError, OSError):
        file_tools(top / "root")["write_file"](path, "x")
    assert [entry.name for entry in top.iterdir()] == ["root"]


def test_a_file_is_written_with_its_folders_and_read_again(root: Path) -> None:
    tools = file_tools(root)
    assert tools["write_file"]("new/deep/b.txt", "ß\n") == "wrote 3 bytes to new/deep/b.txt"
    assert tools["read_file"]("new/deep/b.txt") == "ß\n"
    assert tools["write_file"]("new/deep/b.txt", "")
    assert tools["read_file"]("./new//deep/b.txt") == ""


def test_a_listing_shows_no_protected_file_and_stays_inside(root: Path) -> None:
    (root / ".git").mkdir()
    (root / ".git" / "config").touch()
    listed = file_tools(root)["list_files"]()
    assert "sub/a.txt" in listed
    assert not any(".git" in row or "outside" in row for row in listed)
    with pytest.raises(ValueError, match="link"):
        file_tools(root)["list_files"]("folder-link")


def test_files_that_are_no_text_or_no_files_are_said_to_be(root: Path) -> None:
    (root / "bytes").write_bytes(b"\0\1\2")
    os.mkfifo(root / "pipe")
    read = file_tools(root)["read_file"]
    with pytest.raises(ValueError, match="not text"):
        read("bytes")
    for path in ("pipe", "sub", "."):
        with pytest.raises((ValueError, OSError)):
            read(path)


LETTER = "Grüße aus Köln,\r\nschöne Straßen überall.\r\nÄpfel, Öl und Übermut.\r\n"
WRITTEN = {
    "utf-8": LETTER.encode(),
    "utf-8 with a mark": codecs.BOM_UTF8 + LETTER.encode(),
    "utf-16": codecs.BOM_UTF16_LE + LETTER.encode("utf-16-le"),
    "utf-16 of other machines": codecs.BOM_UTF16_BE + LETTER.encode("utf-16-be"),
    "latin-1": LETTER.encode("latin-1"),
    "shift-jis": "吾輩は猫である。名前はまだ無い。\r\nどこで生れたかとんと見当がつかぬ。\r\n".encode(
        "shift_jis"
    ),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_encoding_and_ends_of_lines_survive_an_edit(root: Path, kind: str) -> None:
    path, tools = root / "letter.txt", file_tools(root)
    path.write_bytes(WRITTEN[kind])
    text = tools["read_file"]("letter.txt")
    assert ("猫" if kind == "shift-jis" else "Köln") in text
    assert "\ufeff" not in text
    first, _, rest = text.partition("\r\n")
    assert tools["read_file"]("letter.txt", 2, 5).startswith(text[2:7])
    # A model writes the ends of lines that it knows.
    tools["write_file"]("letter.txt", (first + "\nX\n" + rest).replace("\r\n", "\n"))
    old_end, new = ("\r\n" + rest, "\r\nX\r\n" + rest)
    encoding = {"utf-16": "utf-16-le", "utf-16 of other machines": "utf-16-be"}.get(kind)
    encoding = encoding or {"latin-1": "latin-1", "shift-jis": "shift_jis"}.get(kind, "utf-8")
    assert path.read_bytes() == WRITTEN[kind].replace(old_end.encode(encoding), new.encode(encoding))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("grün\nKöln\n", "cp1252"),
        ("Name;Straße\nJürgen;größer\n", "cp1252"),
        ("„Preis“ 5 €\n", "cp1252"),
        ("Ça va? Où ça, à Orléans, l’été.", "cp1252"),
        ("İstanbul çok güzel bir şehir, ağaçlar var.\n", "cp1254"),
        ("id;имя\n1;Иван\n", "cp1251"),
        ("Name,東京\nA,大阪\n", "shift_jis"),
        ("\ufeffgrün\n", "utf-32-le"),
        ("\ufeffgrün\n", "utf-32-be"),
    ],
)
def test_short_texts_in_other_encodings_are_read_and_found(root: Path, text: str, encoding: str) -> None:
    tools = file_tools(root)
    (root / "short.txt").write_bytes(text.encode(encoding))
    plain = text.removeprefix("\ufeff")
    assert tools["read_file"]("short.txt") == plain
    word = next(word for word in plain.split() if not word.isascii())
    assert len(tools["search_files"](word)) == 1
    tools["write_file"]("short.txt", plain + plain)
    assert (root / "short.txt").read_bytes() == (text + plain).encode(encoding)


@pytest.mark.parametrize("data", [b"\x80\x01a", b"PK\x03\x04\xe9ab", b"\xe9a\x7f"])
def test_bytes_without_zeros_are_not_text(root: Path, data: bytes) -> None:
    (root / "short.bin").write_bytes(data)
    with pytest.raises(ValueError, match="not text"):
        file_tools(root)["read_file"]("short.bin")


def test_letters_that_an_encoding_lacks_are_written_as_utf_8_and_named(root: Path) -> None:
    (root / "letter.txt").write_bytes(WRITTEN["latin-1"])
    said = file_tools(root)["write_file"]("letter.txt", "猫\n")
    assert "UTF-8" in said
    assert (root / "letter.txt").read_bytes() == "猫\r\n".encode()


def test_a_search_reads_marked_encodings(root: Path) -> None:
    (root / "letter.txt").write_bytes(WRITTEN["utf-16"])
    assert file_tools(root)["search_files"]("köln") == ["letter.txt:1: Grüße aus Köln,"]


@pytest.mark.parametrize("sign", ["x", "漢"])
def test_a_long_file_is_cut_and_says_so(root: Path, sign: str) -> None:
    (root / "long").write_text(sign * (MAX_CHARS * 5), encoding="utf-8")
    text = file_tools(root)["read_file"]("long")
    assert text.endswith(f"(cut: go on with offset={MAX_CHARS})")
    assert len(text) < MAX_CHARS + 60


@given(text=st.text(st.sampled_from("a\nß漢"), max_size=30), limit=st.integers(1, 12))
def test_a_file_is_read_whole_in_pieces(
    tmp_path_factory: pytest.TempPathFactory, text: str, limit: int
) -> None:
    root = tmp_path_factory.mktemp("pieces")
    (root / "a").write_bytes(text.encode())
    read, found, offset = file_tools(root)["read_file"], "", 0
    while True:
        piece, is_cut, said = read("a", offset, limit).partition("\n… (cut: go on with offset=")
        found += piece
        if not is_cut:
            break
        offset = int(said.removesuffix(")"))
    assert found == text


@pytest.mark.parametrize(("offset", "limit"), [(-1, 5), (0, 0)])
def test_no_piece_is_read_from_nowhere(root: Path, offset: int, limit: int) -> None:
    with pytest.raises(ValueError, match="negative"):
        file_tools(root)["read_file"]("sub/a.txt", offset, limit)


def test_a_search_finds_lines_of_text_files_only_inside(root: Path) -> None:
    (root / "b.txt").write_text("one Hällo\ntwo\nthree: hällo, secret\n", encoding="utf-8")
    (root / "bytes").write_bytes(b"h\xff\0llo secret")
    (root / ".env").write_text("secret")
    os.mkfifo(root / "pipe")
    search = file_tools(root)["search_files"]
    assert search("hällo") == ["b.txt:1: one Hällo", "b.txt:3: three: hällo, secret", "sub/a.txt:1: hällo"]
    assert search("THREE*secret") == ["b.txt:3: three: hällo, secret"]
    assert search("secret*three") == search("nothing") == []
    assert search("hällo", "sub") == search("hällo", "sub/a.txt") == ["sub/a.txt:1: hällo"]
    assert not any("outside" in row for row in search("secret"))
    for folder in ("folder-link", "link", "..", ".git"):
        with pytest.raises((ValueError, OSError)):
            search("secret", folder)
    with pytest.raises(ValueError, match="give a text"):
        search("*")


def test_a_search_that_finds_much_says_what_it_left_out(root: Path) -> None:
    (root / "many").write_text("x\n" * 1_000)
    found = file_tools(root)["search_files"]("x")
    assert len(found) == MAX_FOUND + 1
    assert "more" in found[-1]
    with (root / "large").open("wb") as file:
        file.truncate(MAX_SEARCHED + 1)
    assert "large" in file_tools(root)["search_files"]("nothing")[-1]


@pytest.mark.parametrize("name", ["read_file", "write_file", "list_files", "search_files"])
def test_a_path_of_any_length_is_judged_at_once(root: Path, name: str) -> None:
    path = "a/" * 30_000 + "b"
    more = {"read_file": (), "list_files": (), "write_file": ("x",)}
    arguments = ("x", path) if name == "search_files" else (path, *more[name])
    began = time.process_time()
    with pytest.raises(ValueError, match="characters"):
        file_tools(root)[name](*arguments)
    assert time.process_time() - began < 1
