"""`orch kb`: documents as their user keeps them, with the real command on real files."""

import dataclasses
import json
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from command import Orch

from orchestrator_cli.admin.knowledge import KnowledgeAdmin
from orchestrator_cli.settings import load_settings

RENT = "# House rules\n\nThe rent is due on the third day of each month.\n"


@pytest.fixture
def notes(orch: Orch) -> Path:
    folder = orch.workspace / "notes"
    folder.mkdir()
    (folder / "rules.md").write_text(RENT)
    (folder / "owls.txt").write_text("Owls hunt at night.\n")
    return folder


def listing(orch: Orch, *args: str) -> dict[str, Any]:
    return orch("kb", "list", "--json", *args).envelope


def search(orch: Orch, query: str, *args: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(orch("kb", "search", query, "--json", *args).out)
    return found


def test_an_empty_knowledge_base_says_how_something_gets_in(orch: Orch) -> None:
    done = orch("kb")
    assert (done.code, done.out) == (0, "")
    assert "orch kb add PATH" in done.err
    assert "orch kb add PATH" in orch("kb", "search", "rent").err


def test_a_folder_is_added_listed_and_searched(orch: Orch, notes: Path) -> None:
    done = orch("kb", "add", "notes")
    assert (done.code, done.out, done.err) == (0, "", "Documents: 2 added.\n")
    assert orch("kb", "list").out.splitlines() == [
        str(notes),
        f"    folder · 2 documents · 2 pieces · {len(RENT) + 20} B",
    ]
    assert orch("kb", "search", "When is the rent due?").out.splitlines()[:3] == [
        "[House rules, notes/rules.md, lines 1-3]",
        "    # House rules",
        "    ",
    ]
    assert orch("kb", "search", "crocodiles").err.strip() == "Nothing was found."
    (piece,) = search(orch, "owls")
    assert (piece["cite"], piece["trusted"]) == ("[notes/owls.txt, line 1]", False)
    assert [row["title"] for row in listing(orch)["documents"]] == ["owls.txt", "House rules"]


def test_looking_again_tells_what_is_new_changed_and_gone(orch: Orch, notes: Path) -> None:
    orch("kb", "add", "notes")
    (notes / "rules.md").write_text(RENT + "\nNo crocodiles.\n")
    (notes / "owls.txt").unlink()
    (notes / "new.md").write_text("Bees make honey.")
    done = orch("kb", "refresh")
    assert done.err.splitlines() == [
        "Documents: 1 added, 1 changed, 1 removed.",
        "  notes/owls.txt: removed: it is gone",
    ]
    refreshed = orch("kb", "refresh", "--json").envelope
    assert (refreshed["unchanged"], refreshed["written"], refreshed["removed"]) == (2, 0, [])


def test_what_cannot_be_read_is_named_and_the_exit_code_says_so(orch: Orch, notes: Path) -> None:
    (notes / "broken.pdf").write_bytes(b"%PDF-1.7 nonsense")
    (notes / "picture.png").write_bytes(b"\x89PNG\0\0")
    (notes / ".env").write_text("TOKEN=x")
    done = orch("kb", "add", "notes", "nowhere")
    assert done.code == 1
    lines = done.err.splitlines()
    assert lines[0] == "Documents: 2 added."
    assert any(line.startswith("  notes/picture.png: skipped: ") for line in lines)
    assert any(line.startswith("  nowhere: NOT READ: ") for line in lines)
    assert any(line.startswith("  notes/broken.pdf: NOT READ: it is damaged") for line in lines)
    assert "2 sources could not be read" in done.error
    refused = orch("kb", "add", "notes/.env")
    assert refused.code == 1
    assert "it is protected" in refused.err
    assert "One source could not be read" in refused.error
    (notes / "snap/firefox").mkdir(parents=True)
    (notes / "snap/firefox/logins.md").write_text("a password")
    assert "it is protected" in orch("kb", "add", "notes/snap/firefox/logins.md").err
    assert "only addresses that begin with http:// or https:// are read" in orch("kb", "add", "ftp://a/b").err
    assert [row["source"] for row in listing(orch)["sources"]] == [str(notes)]


def test_a_file_that_could_never_be_read_can_be_left_out(orch: Orch, notes: Path) -> None:
    (notes / "broken.pdf").write_bytes(b"%PDF-1.7 nonsense")
    orch("kb", "add", "notes")
    done = orch("kb", "remove", "notes/broken.pdf")
    assert (done.code, "never read" in done.err) == (0, True)
    again = orch("kb", "refresh")
    assert (again.code, again.err) == (0, "Documents: 2 unchanged.\n")
    assert orch("kb", "remove", "notes/none.pdf").code == 2


def test_another_workspace_sees_only_what_was_added_for_the_user(
    orch: Orch, notes: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = dataclasses.replace(orch, workspace=elsewhere)
    orch("kb", "add", "notes/rules.md")
    orch("kb", "add", "--global", "notes/owls.txt")
    assert [row["source"] for row in listing(other)["sources"]] == [str(notes / "owls.txt")]
    assert (search(other, "rent"), len(search(other, "owls")), len(search(orch, "rent"))) == ([], 1, 1)
    assert len(listing(other, "--all-projects")["sources"]) == 2
    assert len(search(other, "rent", "--all-projects")) == 1
    assert "seen from everywhere" in other("kb", "list").out
    assert orch("kb", "refresh").err == "Documents: 2 unchanged.\n"
    assert other("kb", "remove", str(notes / "rules.md")).code == 2


def test_what_is_removed_is_gone_and_stays_out(orch: Orch, notes: Path) -> None:
    orch("kb", "add", "notes")
    done = orch("kb", "remove", "notes/rules.md")
    assert (done.code, done.err) == (0, "Removed: 1 document, 1 piece.\n")
    kept = b"".join(path.read_bytes() for path in (orch.home / "knowledge").rglob("*") if path.is_file())
    assert b"third day" not in kept
    assert b"Owls hunt" in kept
    assert orch("kb", "refresh").err == "Documents: 1 unchanged.\n"
    assert orch("kb", "add", "notes/rules.md").err == "Documents: 1 added.\n"
    assert orch("kb", "remove", "notes").err == "Removed: 1 document, 1 piece.\n"
    assert [row["source"] for row in listing(orch)["sources"]] == [str(notes / "rules.md")]
    assert dataclasses.replace(orch, workspace=orch.home)(
        *("kb", "remove", "notes/rules.md", "-C", str(orch.workspace))
    ).err == ("Removed: 1 document, 1 piece.\n")
    missing = orch("kb", "remove", "notes/none.md")
    assert "notes/none.md" in missing.error
    assert "orch kb list" in missing.error


def test_the_data_folder_is_not_read_into_itself(orch: Orch) -> None:
    (orch.home / "notes.md").write_text("Bees make honey.")
    done = orch("kb", "add", str(orch.home.parent))
    assert done.code == 0
    for own in (orch.home, orch.home / "knowledge", orch.home / "notes.md"):
        assert "it is protected" in orch("kb", "add", str(own)).err
    assert search(orch, "honey") == []


def test_ctrl_c_keeps_what_was_read_and_a_bar_is_shown_on_a_terminal(orch: Orch, notes: Path) -> None:
    for n in range(300):
        (notes / f"{n}.md").write_text(f"# Note {n}\n\nThe owl number {n}.\n")
    (notes / "z.html").write_text("<p>last</p>" * 100_000)
    main, other = pty.openpty()
    process = subprocess.Popen(
        [*orch.command, "kb", "add", "notes"],
        cwd=orch.workspace,
        env=orch.environment(TERM="xterm"),
        stdin=other,
        stdout=other,
        stderr=other,
        start_new_session=True,
    )
    os.close(other)
    shown = b""
    try:
        while b"z.html" not in shown:
            shown += os.read(main, 4096)
        process.send_signal(signal.SIGINT)
        while chunk := _read(main):
            shown += chunk
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
        os.close(main)
    pieces = shown.rpartition(b"Documents: 302 added.")
    # It begins a line: the bar, which ended the one before, is gone.
    assert pieces[0].rpartition(b"\n")[2].rpartition(b"\x1b[2K")[2] == b""
    assert b"What was read so far is kept" in pieces[2]
    assert len(listing(orch)["documents"]) == 302


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # no process writes to it any more
        return b""


def silent(_ref: str, _of: int, _share: float) -> None:
    """Nobody watches."""


class Site(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        moved = self.path == "/moved"
        self.send_response(302 if moved else 200 if self.path == "/bees" else 404)
        body = b"<title>Bees</title><p>Bees make honey in combs.</p>"
        self.send_header("location" if moved else "content-type", "/bees" if moved else "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def site() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://bees.example.org:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_page_is_fetched_and_cited_by_its_address(tmp_path: Path, site: str) -> None:
    settings = load_settings({"home": tmp_path / "home"}, tmp_path / "work")
    keeping = KnowledgeAdmin(settings, resolve=lambda _host, _port: "127.0.0.1")
    outcome = keeping.add([f"{site}/moved", f"{site}/gone"], for_user=False, on_document=silent).run()
    assert outcome.added == [f"{site}/moved"]
    assert outcome.faults == [(f"{site}/gone", f"it cannot be fetched: {site}/gone answered 404")]
    (found,) = keeping.search("honey", 5)
    assert (found.title, found.ref) == ("Bees", f"{site}/moved")
    assert keeping.remove(f"{site}/moved").documents == (f"{site}/moved",)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/", "http://localhost:9/", "http://[::1]:9/"])
def test_an_address_that_is_not_public_is_refused(tmp_path: Path, address: str) -> None:
    keeping = KnowledgeAdmin(load_settings({"home": tmp_path / "home"}, tmp_path / "work"))
    outcome = keeping.add([address], for_user=False, on_document=silent).run()
    ((_, why),) = outcome.faults
    assert "is not a public address" in why


def test_an_address_with_a_password_is_not_kept(tmp_path: Path) -> None:
    keeping = KnowledgeAdmin(load_settings({"home": tmp_path / "home"}, tmp_path / "work"))
    outcome = keeping.add(["http://me:secret@example.org/"], for_user=False, on_document=silent).run()
    assert outcome.faults[0][1] == "an address with a password is not kept"
