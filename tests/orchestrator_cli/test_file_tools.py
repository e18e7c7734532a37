"""The file tools: text in and out of the checkout, and no way out of it."""

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
    assert any(row.startswith("sub/a.txt (6 bytes)") for row in listed)
    assert not any(".git" in row or "outside" in row for row in listed)
    with pytest.raises(ValueError, match="link"):
        file_tools(root)["list_files"]("folder-link")


def test_files_that_are_no_text_or_no_files_are_said_to_be(root: Path) -> None:
    (root / "bytes").write_bytes(b"\xff\xfe")
    os.mkfifo(root / "pipe")
    read = file_tools(root)["read_file"]
    with pytest.raises(ValueError, match="not UTF-8 text"):
        read("bytes")
    for path in ("pipe", "sub", "."):
        with pytest.raises((ValueError, OSError)):
            read(path)


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
