"""A tool in smolagents' own form, loaded by plain smolagents where nothing of this project is."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import smolagents

from toolsmith.errors import LibraryError
from toolsmith.library import Library
from toolsmith.smolagents_tools import export_folder, files, module
from toolsmith.spec import ToolSpec

PLAIN = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
for name in ("orchestrator_cli", "toolsmith", "memory"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} can be imported")
from smolagents import Tool, load_tool

folder, calls, cache = Path(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]
if cache:
    tool = load_tool("me/shared", trust_remote_code=True, local_files_only=True, cache_dir=cache)
else:
    tool = Tool.from_code((folder / "tool.py").read_text(encoding="utf-8"))

def said(arguments):
    try:
        return tool(**arguments)
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"

print(json.dumps([tool.name, tool.inputs, tool.output_type, [said(call) for call in calls]]))
"""


def loaded_plainly(folder: Path, *calls: dict[str, Any], cwd: Path, cache: Path | None = None) -> Any:
    """What a process makes of the folder that has smolagents and nothing of ours."""
    # `-S` leaves out the file among the packages that leads to this checkout.
    packages = Path(smolagents.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PLAIN, packages, folder, json.dumps(calls), str(cache or "")],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def spec_of(sample: Any, **changes: Any) -> ToolSpec:
    return ToolSpec.model_validate(sample.raw | changes)


@pytest.fixture
def kept(library: Library, sample: Any) -> Any:
    return library.add(sample.spec, sample.code, sample.report, sample.origin, sample.suite)


def test_plain_smolagents_loads_an_exported_tool_and_it_gives_what_it_gave_here(kept, tmp_path):
    (tmp_path / "a.txt").write_text("b a b c\n")
    place = export_folder(kept, tmp_path / "shared")
    name, inputs, output, said = loaded_plainly(
        place, {"path": "a.txt"}, {"path": "a.txt", "top": 1}, {"path": "none.txt"}, cwd=tmp_path
    )
    assert (name, output) == ("count_words", "object")
    assert inputs["top"]["nullable"]
    assert said[:2] == [{"b": 2, "a": 1, "c": 1}, {"b": 2}]
    assert said[2].startswith("FileNotFoundError")


def test_load_tool_takes_the_folder_from_the_hub_s_cache(kept, tmp_path):
    (tmp_path / "a.txt").write_text("b a b\n")
    place = export_folder(kept, tmp_path / "shared")
    space = tmp_path / "cache" / "spaces--me--shared"
    (space / "refs").mkdir(parents=True)
    (space / "refs" / "main").write_text("0" * 40)
    (space / "snapshots").mkdir()
    place.rename(space / "snapshots" / ("0" * 40))
    *_, said = loaded_plainly(place, {"path": "a.txt"}, cwd=tmp_path, cache=tmp_path / "cache")
    assert said == [{"b": 2, "a": 1}]


def test_the_folder_says_what_it_needs_where_it_comes_from_and_that_loading_it_runs_it(kept, tmp_path):
    found = files(kept)
    assert sorted(found) == ["README.md", "app.py", "requirements.txt", "tool.py"]
    assert found["requirements.txt"] == "smolagents\n"
    assert "from tool import CountWordsTool" in found["app.py"]
    readme = found["README.md"]
    assert kept.sha256 in readme
    assert f"all {len(kept.trial.results)} of its cases" in readme
    assert "trust_remote_code=True" in readme
    assert "outside of any sandbox" in readme
    place = export_folder(kept, tmp_path)
    assert {path.name: path.read_text() for path in place.iterdir()} == found


def test_what_is_there_already_is_left_as_it_is(kept, tmp_path):
    (tmp_path / "count_words").mkdir()
    (tmp_path / "count_words" / "mine.txt").write_text("mine")
    with pytest.raises(LibraryError, match="already"):
        export_folder(kept, tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and "tools" not in path.parts] == [
        "mine.txt"
    ]


def test_unwritable_target_is_reported(kept, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LibraryError, match="cannot be written"):
        export_folder(kept, tmp_path / "file")


def test_an_argument_that_is_left_out_may_be_given_as_null(kept, tmp_path):
    (tmp_path / "a.txt").write_text("a b c d\n")
    place = export_folder(kept, tmp_path / "shared")
    *_, said = loaded_plainly(place, {"path": "a.txt", "top": None}, cwd=tmp_path)
    assert said == [{"a": 1, "b": 1, "c": 1}]


HARD = '''"""A module with everything that is awkward to add to."""

from __future__ import annotations

import dataclasses
from enum import Enum

from smolagents import tool

Tool = 3


class CountWordsTool(Enum):
    """Takes the name that the class would have."""

    ONE = 1


@dataclasses.dataclass(frozen=True)
class Row:
    """One."""

    text: str
    size: int = Tool


@tool
def count_words(anything: object, path: str | None = None, top: int = 3) -> str:
    """Say it.

    Args:
        anything: What.
        path: Where.
        top: How many.

    Returns:
        It.
    """
    sign = "@tool"
    return f"{Row(str(anything)).size}{sign}{path}{top}{CountWordsTool.ONE.value}"
'''


def test_names_in_a_module_that_an_export_would_need_are_left_to_it(library, sample, tmp_path):
    inputs = {
        "path": {"type": "string", "description": "Where.", "nullable": True},
        "anything": {"type": "any", "description": 'What, "quoted"\nand on two lines.'},
        "top": {"type": "integer", "description": "How many.", "default": 3},
    }
    example = {"title": "e", "arguments": {"anything": 1}, "expected": "x"}
    changes = {"output_type": "string", "errors": [], "workspace": "none", "purpose": 'Say "it".'}
    spec = spec_of(sample, inputs=inputs, examples=[example], **changes)
    report = sample.report.model_copy(
        update={"results": (sample.report.results[0].model_copy(update={"title": "e"}),)}
    )
    place = export_folder(library.add(spec, HARD, report, sample.origin), tmp_path / "shared")
    calls = [{"anything": [1]}, {"anything": 1, "path": "p", "top": 4}]
    _, said_inputs, _, said = loaded_plainly(place, *calls, cwd=tmp_path)
    assert said == ["3@toolNone31", "3@toolp41"]
    assert said_inputs["anything"]["description"] == inputs["anything"]["description"]
    assert list(said_inputs) == list(inputs)


def test_what_is_exported_is_python_that_begins_with_the_module(kept):
    text = module(kept)
    ast.parse(text)
    begins = kept.source.partition("@tool")[0].replace("from smolagents import tool\n", "").rstrip()
    assert text.startswith(begins)
