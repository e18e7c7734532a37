"""What befalls a kept tool: uses by many processes, quarantine, decisions, edits by hand, removal."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from toolsmith.build import EditOutcome, adopt_edit, edit_prover, settle_edit, usable_tool
from toolsmith.built import BuiltTool
from toolsmith.errors import LibraryError, PermissionRefused, ToolDisabled, ToolEdited, ToolQuarantined
from toolsmith.library import Library
from toolsmith.library.records import MAX_BYTES
from toolsmith.library.status import Judgement
from toolsmith.permissions import Permissions

FAILED = Judgement("failure", "KeyError: 'a'")
SUCCEEDED = Judgement("success", "")

USE = """
import sys
from pathlib import Path
from toolsmith.library import Library
from toolsmith.library.status import Judgement

library = Library(Path(sys.argv[1]))
tool = library.get("count_words")
for number in range(int(sys.argv[2])):
    library.record_use(tool, Judgement("success", ""), 0.25, "r" * 60)
    print(number, flush=True)
"""


def start_using(library: Library, times: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", USE, str(library.root), str(times)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def tool(library: Library, sample: Any) -> BuiltTool:
    return library.add(sample.spec, sample.code, sample.report, sample.origin, sample.suite)


def add_another(library: Library, sample: Any, mark: str = "# better\n") -> BuiltTool:
    return library.add(sample.spec, sample.code + mark, sample.report, sample.origin, sample.suite)


def edit(library: Library, old: str, new: str, version: int = 1, file: str = "tool.py") -> None:
    path = library.folder("count_words", version) / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# --- uses


def test_uses_of_processes_at_once_are_all_counted_and_the_file_stays_short(
    library: Library, tool: BuiltTool
) -> None:
    processes = [start_using(library, 100) for _ in range(3)]
    counts = [process.communicate()[0].count("\n") for process in processes]
    assert counts == [100, 100, 100]
    tally = library.status(tool.name).tally(1)
    assert (tally.calls, tally.successes, tally.seconds) == (300, 300, 75.0)
    assert (library.root / "count_words" / "history.jsonl").stat().st_size <= MAX_BYTES


def test_a_kill_loses_no_use_that_was_acknowledged(library: Library, tool: BuiltTool) -> None:
    acknowledged = 0
    for pause in (0.0, 0.05):
        process = start_using(library, 100_000)
        assert process.stdout
        process.stdout.readline()
        time.sleep(pause)
        process.kill()
        acknowledged += 1 + process.stdout.read().count("\n")
        process.wait()
        process.stdout.close()
        calls = library.status(tool.name).tally(1).calls
        assert acknowledged <= calls <= acknowledged + 3, "at most one each was under way"
        acknowledged = calls


def test_a_line_that_was_half_written_is_passed_over_and_closed_off(
    library: Library, tool: BuiltTool
) -> None:
    file = library.root / "count_words" / "history.jsonl"
    library.record_use(tool, SUCCEEDED, 1)
    with file.open("a") as out:
        out.write('{"at": "2026-01-01T00:0')
    assert library.status(tool.name).tally(1).calls == 1
    library.record_use(tool, SUCCEEDED, 1)
    assert library.status(tool.name).tally(1).calls == 2


def test_a_use_of_a_tool_that_is_gone_is_forgotten(library: Library, tool: BuiltTool) -> None:
    library.remove(tool.name)
    assert library.record_use(tool, SUCCEEDED, 1) is None
    assert library.versions(tool.name) == ()


# --- quarantine and decisions


def test_three_failures_put_a_tool_out_of_use_until_its_trial_passed_and_it_was_enabled(
    library: Library, tool: BuiltTool
) -> None:
    for _ in range(3):
        library.record_use(tool, FAILED, 0.1)
    with pytest.raises(ToolQuarantined, match=r"'count_words' v1 is in quarantine(.|\n)*KeyError: 'a'"):
        library.get(tool.name)
    assert library.fit() == ()
    assert library.list() == (tool,)
    with pytest.raises(ToolQuarantined):
        library.enable(tool.name)
    library.record_trial(tool.name, 1, passed=False)
    with pytest.raises(ToolQuarantined):
        library.enable(tool.name)
    library.record_trial(tool.name, 1, passed=True)
    assert library.enable(tool.name)
    assert library.get(tool.name) == tool
    assert not library.enable(tool.name)


def test_a_new_version_is_not_in_the_quarantine_of_the_old_and_the_very_same_is(
    library: Library, sample: Any, tool: BuiltTool
) -> None:
    for _ in range(3):
        library.record_use(tool, FAILED, 0.1)
    with pytest.raises(ToolQuarantined):
        library.add(sample.spec, sample.code, sample.report, sample.origin, sample.suite)
    assert add_another(library, sample).version == 2
    assert library.fit() == (library.get("count_words"),)


def test_a_disabled_tool_is_not_given_out_and_says_why(
    library: Library, sample: Any, tool: BuiltTool
) -> None:
    library.disable(tool.name, "it is too slow")
    with pytest.raises(ToolDisabled, match="is disabled: it is too slow"):
        library.get(tool.name)
    with pytest.raises(ToolDisabled):
        library.find_similar(sample.need)
    assert library.fit() == ()
    assert library.enable(tool.name)
    assert library.get(tool.name) == tool


def test_going_back_makes_an_earlier_version_count_until_a_newer_one_is_added(
    library: Library, sample: Any, tool: BuiltTool
) -> None:
    second = add_another(library, sample)
    assert library.roll_back(tool.name, reason="worse") == tool
    assert library.get(tool.name) == tool
    assert library.versions(tool.name) == (1, 2)
    third = add_another(library, sample, "# best\n")
    assert (third.version, library.get(tool.name)) == (3, third)
    assert library.roll_back(tool.name, 2) == second
    assert library.known() == {"count_words": 2}


def test_going_back_where_there_is_nothing_says_what_there_is(library: Library, tool: BuiltTool) -> None:
    for name, version, counts in (
        ("count_words", None, "has no earlier version"),
        ("count_words", 7, r"has no v7\.\nIt has v1\."),
        ("count_words", 1, "already"),
        ("count_lines", None, r"has no tool 'count_lines'\.\nIt has count_words\."),
    ):
        with pytest.raises(LibraryError, match=counts):
            library.roll_back(name, version)


def test_the_number_of_a_version_that_was_deleted_is_not_given_again(
    library: Library, sample: Any, tool: BuiltTool
) -> None:
    add_another(library, sample)
    for path in library.folder(tool.name, 2).iterdir():
        path.unlink()
    library.folder(tool.name, 2).rmdir()
    assert library.get(tool.name) == tool
    assert add_another(library, sample).version == 3


def test_removed_tool_is_in_the_trash_and_works_when_moved_back(
    library: Library, sample: Any, tool: BuiltTool
) -> None:
    library.record_use(tool, SUCCEEDED, 1)
    place = library.remove(tool.name)
    assert library.get(tool.name) is None
    assert library.known() == {}
    assert place.parent == library.root / ".trash"
    place.rename(library.root / tool.name)
    assert library.get(tool.name) == tool
    assert library.status(tool.name).tally(1).calls == 1


# --- edits by hand


def adopt_with(library: Library) -> Any:
    return lambda name: adopt_edit(name, library=library)


def test_an_edit_that_is_proved_becomes_the_next_version_and_the_old_one_is_as_it_was(
    library: Library, sample: Any, tool: BuiltTool
) -> None:
    edit(library, "text.split()", "text.split()  # by blanks")
    adopted, settled = usable_tool(tool.name, library, adopt_with(library))
    assert adopted is not None
    assert settled is not None
    assert (adopted.version, adopted.origin.edit_of, settled.adopted) == (2, 1, True)
    assert "# by blanks" in adopted.source
    assert library.version(tool.name, 1) == tool
    assert usable_tool(tool.name, library, adopt_with(library)) == (adopted, None)


def test_an_edited_case_is_what_the_tool_is_held_to(library: Library, tool: BuiltTool) -> None:
    edit(library, '"title": "an empty file"', '"title": "a file of nothing"', file="tool.json")
    adopted, _ = usable_tool(tool.name, library, adopt_with(library))
    assert adopted is not None
    assert adopted.version == 2
    assert "a file of nothing" in [result.title for result in adopted.trial.results]


def test_an_edit_that_fails_is_left_aside_once_and_the_proved_tool_goes_on(
    library: Library, tool: BuiltTool
) -> None:
    tried = []

    def adopt(name: str) -> BuiltTool:
        tried.append(name)
        return adopt_edit(name, library=library)

    edit(library, "text.split()", "['b']")
    for _ in range(2):
        used, settled = usable_tool(tool.name, library, adopt)
        assert used == tool
        assert settled is not None
        assert not settled.adopted
        assert settled.folder == library.folder(tool.name, 1)
        assert "case 'counts'" in " ".join(settled.reasons)
    assert tried == ["count_words"], "the same edit is tried once"
    with pytest.raises(ToolEdited):
        library.get(tool.name)
    edit(library, "['b']", "text.split()  # mended")
    adopted, _ = usable_tool(tool.name, library, adopt)
    assert adopted is not None
    assert adopted.version == 2


@pytest.mark.parametrize("text", ["{", '{"format": 2}'])
def test_a_record_that_cannot_be_read_any_more_leaves_the_proved_tool(
    library: Library, tool: BuiltTool, text: str
) -> None:
    (library.folder(tool.name, 1) / "tool.json").write_text(text)
    used, settled = usable_tool(tool.name, library, adopt_with(library))
    assert used == tool
    assert settled is not None
    assert "cannot be read" in settled.reasons[0]


def test_a_record_under_which_a_tool_would_have_another_name_is_not_adopted(
    library: Library, tool: BuiltTool
) -> None:
    path = library.folder(tool.name, 1) / "tool.json"
    record = json.loads(path.read_text())
    record["spec"]["name"] = "other"
    path.write_text(json.dumps(record))
    assert usable_tool(tool.name, library, adopt_with(library))[0] == tool
    assert list(library.known()) == ["count_words"]


def test_two_that_notice_an_edit_at_once_adopt_it_once(library: Library, tool: BuiltTool) -> None:
    edit(library, "text.split()", "text.split()  # by blanks")
    settled: list[EditOutcome | None] = []
    threads = [
        threading.Thread(
            target=lambda: settled.append(
                settle_edit("count_words", Library(library.root), adopt_with(library))
            )
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert library.versions(tool.name) == (1, 2)
    assert sorted(one is not None and one.adopted for one in settled) == [False, True]


def test_after_going_back_an_edit_of_the_version_that_counts_is_the_one_that_matters(
    library: Library, sample: Any, tool: BuiltTool
) -> None:
    add_another(library, sample)
    library.roll_back(tool.name)
    edit(library, "text.split()", "text.split()  # by blanks")
    adopted, _ = usable_tool(tool.name, library, adopt_with(library))
    assert adopted is not None
    assert (adopted.version, adopted.origin.edit_of) == (3, 1)


def test_an_edit_whose_trial_is_not_permitted_is_tried_again_the_next_time(
    library: Library, tool: BuiltTool
) -> None:
    edit(library, '"workspace": "read"', '"workspace": "read", "secrets": ["WEATHER_KEY"]', file="tool.json")

    def refuse(tool: BuiltTool, _: object) -> Permissions:
        raise PermissionRefused(f"the user did not allow {', '.join(tool.spec.secrets)}")

    with pytest.raises(PermissionRefused, match="WEATHER_KEY"):
        usable_tool(tool.name, library, edit_prover(library, None, refuse))
    assert library.status(tool.name).refused is None
    given = Permissions(secrets={"WEATHER_KEY": "sunny-days-4711"})
    adopted, _ = usable_tool(tool.name, library, edit_prover(library, None, lambda *_: given))
    assert adopted is not None
    assert (adopted.version, adopted.spec.secrets) == (2, ("WEATHER_KEY",))


def test_a_tool_is_known_by_one_hash_everywhere(library: Library, tool: BuiltTool, tmp_path: Path) -> None:
    for folder in (library.folder(tool.name, 1), library.root / tool.name / ".proved" / "v1"):
        assert json.loads((folder / "tool.json").read_text())["sha256"] == tool.sha256
