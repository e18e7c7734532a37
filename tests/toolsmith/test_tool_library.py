"""The folder of tools: whole or absent, shared by processes, and watched for hand edits."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from toolsmith.errors import LibraryError, ToolEdited
from toolsmith.library import Library
from toolsmith.spec import Need

ADD = """
import json, sys, time
from pathlib import Path
from toolsmith.built import CaseResult, Origin, TrialReport
from toolsmith.library import Library
from toolsmith.spec import Need, ToolSpec

root, spec, code = json.load(sys.stdin)
spec = ToolSpec.model_validate(spec)
passed = [CaseResult(title=case.title, passed=True, detail="", seconds=0) for case in spec.examples]
report = TrialReport(passed=True, results=passed)
library = Library(Path(root))
origin = Origin(need=Need(name=spec.name, purpose="p"))
for number in range(int(sys.argv[2])):
    tool = library.add(spec, f"{code}# {sys.argv[1]} {number}\\n", report, origin)
    print(tool.version, flush=True)
    time.sleep(float(sys.argv[3]))
"""


def start_adding(
    library: Library, sample: Any, label: str, *, times: int = 10_000, pause: float = 0
) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", ADD, label, str(times), str(pause)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    json.dump([str(library.root), sample.raw, sample.code], process.stdin)
    process.stdin.close()
    process.stdin = None
    return process


def killed_after(process: subprocess.Popen[str], seconds: float) -> list[int]:
    """The versions that the process acknowledged before it was killed."""
    assert process.stdout
    acknowledged = [process.stdout.readline()]
    time.sleep(seconds)
    process.kill()
    acknowledged += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    return [int(line) for line in acknowledged if line.endswith("\n")]


def test_what_was_added_is_found_by_a_new_library_on_the_same_folder(library: Library, sample: Any) -> None:
    added = library.add(sample.spec, sample.code, sample.report, sample.origin)
    found = Library(library.root).get("count_words")
    assert found == added
    assert (found.version, found.source, found.spec, found.origin.run) == (1, sample.code, sample.spec, "r1")
    assert [part.name for part in found.functions] == ["words_of", "count_words"]
    assert library.list() == (added,)
    assert library.faults() == ()


def test_a_library_that_does_not_exist_yet_is_empty(library: Library, sample: Any) -> None:
    assert library.get("count_words") is None
    assert library.find_similar(sample.need) is None
    assert library.list() == ()
    assert not library.root.exists()


@pytest.mark.parametrize("name", ["count_words", "Count-Words", "countWords", "count words", "COUNTWORDS"])
def test_a_tool_is_found_by_its_name_however_it_is_written(library: Library, sample: Any, name: str) -> None:
    added = library.add(sample.spec, sample.code, sample.report, sample.origin)
    assert library.find_similar(Need(name=name, purpose="p")) == added
    assert library.find_similar(Need(name="count_lines", purpose="p")) is None


def test_the_same_tool_again_adds_nothing_and_another_is_the_next_version(
    library: Library, sample: Any
) -> None:
    first = library.add(sample.spec, sample.code, sample.report, sample.origin)
    assert library.add(sample.spec, sample.code, sample.report, sample.origin) == first
    second = library.add(sample.spec, sample.code + "# better\n", sample.report, sample.origin)
    assert (first.version, second.version) == (1, 2)
    assert library.get("count_words") == second
    assert (library.root / "count_words" / "v1" / "tool.py").read_text() == sample.code


def test_a_tool_that_did_not_pass_is_not_kept(library: Library, sample: Any) -> None:
    for report in (
        sample.report.model_copy(update={"passed": False}),
        sample.report.model_copy(update={"results": ()}),
    ):
        with pytest.raises(LibraryError, match="only proved tools are kept"):
            library.add(sample.spec, sample.code, report, sample.origin)


def test_a_hand_edit_of_the_code_is_noticed(library: Library, sample: Any) -> None:
    library.add(sample.spec, sample.code, sample.report, sample.origin)
    file = library.root / "count_words" / "v1" / "tool.py"
    file.write_text(file.read_text() + "# mine\n")
    with pytest.raises(ToolEdited, match=r"'count_words' v1 was changed by hand(.|\n)*adopt_edit"):
        library.get("count_words")
    with pytest.raises(ToolEdited):
        library.find_similar(sample.need)
    (listed,) = library.list()
    assert listed.edited
    assert len(library.faults()) == 1


def test_a_hand_edit_of_the_cases_is_noticed(library: Library, sample: Any) -> None:
    library.add(sample.spec, sample.code, sample.report, sample.origin)
    file = library.root / "count_words" / "v1" / "tool.json"
    file.write_text(file.read_text().replace('"b": 2', '"b": 3'))
    with pytest.raises(ToolEdited):
        library.get("count_words")


def test_a_damaged_tool_is_named_and_does_not_hide_the_others(library: Library, sample: Any) -> None:
    added = library.add(sample.spec, sample.code, sample.report, sample.origin)
    for name, text in (("broken", "{"), ("copied", (library.root / "count_words/v1/tool.json").read_text())):
        folder = library.root / name / "v1"
        folder.mkdir(parents=True)
        (folder / "tool.py").write_text(sample.code)
        (folder / "tool.json").write_text(text)
    with pytest.raises(LibraryError, match=r"'broken' v1 cannot be read(.|\n)*Restore or delete"):
        library.get("broken")
    assert library.list() == (added,)
    assert len(library.faults()) == 2


def test_a_folder_that_cannot_be_written_is_named(sample: Any, tmp_path: Path) -> None:
    (tmp_path / "tools").write_text("a file")
    with pytest.raises(LibraryError, match="tools"):
        Library(tmp_path / "tools").add(sample.spec, sample.code, sample.report, sample.origin)


def test_a_kill_at_any_moment_leaves_whole_tools_only(library: Library, sample: Any) -> None:
    moments = random.Random(7)
    acknowledged: list[int] = []
    for label in range(6):
        acknowledged += killed_after(start_adding(library, sample, str(label)), moments.uniform(0, 0.02))
        assert library.faults() == ()
        tool = library.get("count_words")
        assert tool is not None
        assert tool.version >= max(acknowledged)
    assert acknowledged == sorted(set(acknowledged)), "no version was given twice"
    versions = [
        folder for folder in (library.root / "count_words").iterdir() if not folder.name.startswith(".")
    ]
    assert all((folder / "tool.py").exists() and (folder / "tool.json").exists() for folder in versions)
    library.add(sample.spec, sample.code, sample.report, sample.origin)
    assert not list((library.root / "count_words").glob(".v*")), "what a killed process left is cleared away"


def test_processes_that_add_at_once_get_a_version_each(library: Library, sample: Any) -> None:
    # The pause is what gives the other process its turn; the lock itself is not fair.
    processes = [start_adding(library, sample, label, times=12, pause=0.02) for label in ("one", "two")]
    numbers = [int(line) for process in processes for line in process.communicate()[0].splitlines()]
    assert sorted(numbers) == list(range(1, 25))
    assert library.faults() == ()


def test_a_builder_that_waits_too_long_says_for_what(library: Library) -> None:
    with (
        library.build_lock("count_words"),
        pytest.raises(LibraryError, match=r"Another builder has held .*count_words.build"),
        library.build_lock("count_words", patience_s=0.1),
    ):
        pass
