"""`orch log`: the log for people and for programs."""

import io
import json
from pathlib import Path

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, code, coder, plan

from orchestrator_cli.views.filelog import EntryFilter, entries_of, markdown_of, select_entries
from orchestrator_cli.views.streams import show_page

LONG = "".join(f"line {number}\n" for number in range(2_000))
STEP = "print('line of the first run')\nfinal_answer('done')"
OLD = "# fileLog\n\n## Run r1 — now\n\n> hello\n\n<!-- orch entry 1 run r1 -->\n\n**2** · run `r1` · now · tool `x` needed by `plan`: y\n\n<!-- orch entry 2 run r1 -->\n"  # noqa: E501


@pytest.fixture(scope="module")
def logged(stage: tuple[Orch, Endpoint]) -> Orch:
    """A workspace in which two runs went on."""
    orch, endpoint = stage
    for step in (STEP, f"print({LONG!r})\nfinal_answer('done')"):
        endpoint.reply = Cast(planner=[plan(coder("work"))], agents={"Do work": [code(step)]})
        assert orch("ask", "-q", "Work.").code == 0
    return orch


def test_missing_log_is_reported(orch: Orch) -> None:
    done = orch("log")
    assert done.code == 2
    assert "There is no log" in done.error
    assert "fileLog.md" in done.error


def test_log_is_plain_without_comments_if_not_on_a_terminal(logged: Orch) -> None:
    done = logged("log")
    assert done.code == 0
    assert done.out.startswith("# fileLog\n")
    assert "<!-- orch" not in done.out
    assert "\x1b" not in done.out
    assert done.out.count("## Run ") == 2


def test_json_has_every_entry_with_its_run_line_and_hash(logged: Orch) -> None:
    rows = json.loads(logged("log", "--json").out)
    assert len({row["run"] for row in rows}) == 2
    assert all(len(row["hash"]) == 64 and row["number"] > 0 and row["title"] for row in rows)
    lines = logged.log.splitlines()
    assert all(row["text"].splitlines()[0] in lines[row["line"] - 1 : row["line"] + 2] for row in rows)


def test_entries_are_filtered_by_run_and_text(logged: Orch) -> None:
    runs = list(dict.fromkeys(row["run"] for row in json.loads(logged("log", "--json").out)))
    for wanted in (runs[1], runs[1][-6:], "last"):
        rows = json.loads(logged("log", "--json", "--run", wanted).out)
        assert {row["run"] for row in rows} == {runs[1]}
    (row,) = json.loads(logged("log", "--json", "--grep", "LINE OF the first RUN", "--run", runs[0]).out)
    assert row["title"] == "code run by `work`, step 1"


def test_a_filter_without_a_match_is_an_error(logged: Orch) -> None:
    done = logged("log", "--tools")
    assert (done.code, "No entry" in done.error) == (2, True)


def test_verify_accepts_real_runs_and_names_a_change(logged: Orch) -> None:
    done = logged("log", "verify")
    assert (done.code, "none altered" in done.out, "2 journals" in done.out) == (0, True, True), done.out
    path = logged.workspace / "fileLog.md"
    kept = path.read_text()
    path.write_text(kept.replace("line of the first run", "line of the worst run", 1))
    try:
        done = logged("log", "-C", str(logged.workspace), "verify")
        found = json.loads(logged("log", "verify", "--json", str(path)).out)
    finally:
        path.write_text(kept)
    line = next(number for number, text in enumerate(kept.splitlines(), 1) if "code run by" in text) - 1
    assert done.code == 1
    assert f"line {line}: altered. Entry" in done.out
    assert (found["ok"], found["fault"]["kind"], found["fault"]["line"]) == (False, "altered", line)


def test_full_text_is_printed_by_its_hash(logged: Orch) -> None:
    digest = logged.log.partition("orch log show ")[2].split(" ")[0]
    done = logged("log", "show", digest)
    assert done.code == 0
    assert LONG in done.out


def test_unsealed_entries_are_read() -> None:
    entries = entries_of(OLD.encode())
    assert [(entry.number, entry.run) for entry in entries] == [(1, "r1"), (2, "r1")]
    (tool,) = select_entries(entries, EntryFilter(tools=True))
    assert tool.title == "tool `x` needed by `plan`: y"


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def test_log_is_rendered_safely_on_a_terminal() -> None:
    entries = entries_of(OLD.replace("hello", "hel\x1b[2Jlo\x07 **bold**").encode())
    screen = Terminal()
    show_page(markdown_of(entries), screen)
    shown = screen.getvalue()
    assert "hello" in shown
    assert "**bold**" not in shown
    assert "\x1b[2J" not in shown
    assert "\x07" not in shown


def test_a_missing_folder_is_named(orch: Orch, tmp_path: Path) -> None:
    assert str(tmp_path / "gone") in orch("log", "-C", str(tmp_path / "gone")).error
