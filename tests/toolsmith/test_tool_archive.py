"""Tools given away and taken in: whole, with hashes that fit, and proved again where they arrive."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile_files
import pytest

from toolsmith.build import prove_again
from toolsmith.built import BuiltTool
from toolsmith.errors import LibraryError, ToolNotBuilt
from toolsmith.library import Library, records
from toolsmith.library.archive import (
    MANIFEST,
    MAX_FILE,
    MAX_TOOLS,
    MAX_TOTAL,
    export,
    import_tool,
    read_archive,
)
from toolsmith.proof.checker import check


@pytest.fixture
def tool(library: Library, sample: Any) -> BuiltTool:
    return library.add(sample.spec, sample.code, sample.report, sample.origin, sample.suite)


@pytest.fixture
def other(tmp_path: Path) -> Library:
    return Library(tmp_path / "other")


@pytest.mark.parametrize("name", ["gift", "gift.zip"])
def test_a_tool_arrives_as_it_was_given_and_is_proved_there(
    tmp_path: Path, tool: BuiltTool, other: Library, name: str
) -> None:
    export([tool], tmp_path / name)
    (arrived,) = read_archive(tmp_path / name)
    taken = import_tool(arrived, other, prove_again, source=name)
    assert taken.new
    assert (taken.tool.spec, taken.tool.suite, taken.tool.source) == (tool.spec, tool.suite, tool.source)
    assert taken.tool.origin.imported_from == name
    assert taken.tool.trial.passed
    assert other.get("count_words") == taken.tool
    assert not import_tool(arrived, other, prove_again, source=name).new
    assert other.versions("count_words") == (1,)


def test_what_the_tool_was_made_for_stays_at_home(tmp_path: Path, library: Library, sample: Any) -> None:
    need = sample.need.model_copy(update={"context": "for the secret plan"})
    origin = sample.origin.model_copy(update={"need": need})
    tool = library.add(sample.spec, sample.code, sample.report, origin, sample.suite)
    export([tool], tmp_path / "gift")
    text = "".join(path.read_text() for path in (tmp_path / "gift").rglob("*") if path.is_file())
    assert "secret plan" not in text
    assert "$write.value" not in text
    assert '"run": "r1"' not in text


LONG = "x" * 5_000
LARGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "spec.purpose": lambda spec: spec.update(purpose=LONG),
    "spec.output_description": lambda spec: spec.update(output_description=LONG),
    "inputs": lambda spec: spec["inputs"].update({f"i{n}": spec["inputs"]["path"] for n in range(60)}),
    "inputs.path.description": lambda spec: spec["inputs"]["path"].update(description=LONG),
    "default": lambda spec: spec["inputs"]["path"].update(default=LONG),
    "number": lambda spec: spec["inputs"]["top"].update(default=10**4_000),
    "name of an input": lambda spec: spec["inputs"].update({LONG: spec["inputs"]["path"]}),
    "errors": lambda spec: spec.update(errors=spec["errors"] * 60),
    "errors.when": lambda spec: spec["errors"][0].update(when=LONG),
    "network": lambda spec: spec.update(network=[f"a{n}.example.org" for n in range(60)]),
    "secrets": lambda spec: spec.update(secrets=["K" * 500]),
    "examples.title": lambda spec: spec["examples"][0].update(title=LONG),
    "examples.files": lambda spec: spec["examples"][0].update(files={"a.txt": LONG * 100}),
    "examples.check": lambda spec: spec["examples"][0].update(check=f"value == '{LONG}'"),
}


@pytest.mark.parametrize("large", LARGE)
def test_a_tool_whose_specification_is_too_large_is_refused(
    tmp_path: Path, tool: BuiltTool, large: str
) -> None:
    """With hashes and seals that fit: whoever makes an archive makes those too."""
    record = records.record_of(tool)
    LARGE[large](record["spec"])
    place = tmp_path / "gift" / tool.name / "v1"
    records.write(place, place.with_name(".scratch"), record, tool.source)
    rows = [{"name": tool.name, "version": 1, "sha256": tool.sha256}]
    (tmp_path / "gift" / MANIFEST).write_text(json.dumps({"format": 1, "tools": rows}))
    with pytest.raises(LibraryError, match=r"at most|more than|identifier") as caught:
        read_archive(tmp_path / "gift")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "more",
    [
        "".join(f'\n\ndef f{n}() -> None:\n    """It."""\n' for n in range(400)),
        f'\n\ndef f() -> None:\n    """{"x" * 50_000}"""\n',
        f'\n\ndef f({", ".join(f"a{n}: int" for n in range(500))}) -> None:\n    """It."""\n',
        f"\n\nTEXT = '{'x' * 600_000}'\n",
    ],
    ids=["functions", "docstring", "signature", "module"],
)
def test_a_module_that_is_too_large_is_refused_when_it_is_read_and_when_it_is_checked(
    library: Library, sample: Any, more: str
) -> None:
    source = sample.code + more
    assert any("at most" in fault or "more than" in fault for fault in check(source, sample.spec))
    tool = library.add(sample.spec, sample.code, sample.report, sample.origin, sample.suite)
    record = records.record_of(tool) | {"sha256": records.sha256(source.encode())}
    place = library.folder(tool.name, 1)
    records.write(place, place.with_name(".scratch"), record, source)
    with pytest.raises(LibraryError, match=r"at most|more than"):
        library.get(tool.name)


def test_where_a_tool_says_that_it_comes_from_is_not_believed(
    tmp_path: Path, tool: BuiltTool, other: Library
) -> None:
    need = tool.origin.need.model_copy(update={"context": "x" * 5_000})
    origin = tool.origin.model_copy(update={"run": "20260101-000000-abcdef", "need": need})
    taken = import_tool(tool.model_copy(update={"origin": origin}), other, prove_again, source="gift")
    kept = taken.tool.origin
    assert (kept.run, kept.need.context, kept.imported_from) == (None, "", "gift")


def test_a_tool_that_came_meanwhile_is_not_replaced(tool: BuiltTool, other: Library, sample: Any) -> None:
    def prove(one: BuiltTool) -> Any:
        other.add(sample.spec, sample.code + "# mine\n", sample.report, sample.origin, sample.suite)
        return prove_again(one)

    with pytest.raises(LibraryError, match="meanwhile"):
        import_tool(tool, other, prove, source="gift")
    assert other.versions(tool.name) == (1,)


def test_nothing_is_written_over(tmp_path: Path, tool: BuiltTool) -> None:
    (tmp_path / "gift.zip").write_text("mine")
    with pytest.raises(LibraryError, match="already"):
        export([tool], tmp_path / "gift.zip")
    assert (tmp_path / "gift.zip").read_text() == "mine"
    assert not list(tmp_path.glob(".orch-*"))


def test_another_tool_of_that_name_is_kept_unless_the_next_version_is_wanted(
    tmp_path: Path, tool: BuiltTool, other: Library, sample: Any
) -> None:
    mine = other.add(sample.spec, sample.code + "# mine\n", sample.report, sample.origin, sample.suite)
    export([tool], tmp_path / "gift")
    (arrived,) = read_archive(tmp_path / "gift")
    with pytest.raises(LibraryError, match="has another tool 'count_words'"):
        import_tool(arrived, other, prove_again, source="gift")
    assert other.get("count_words") == mine
    assert import_tool(arrived, other, prove_again, source="gift", beside=True).tool.version == 2
    assert other.version("count_words", 1) == mine


def test_a_tool_that_does_not_pass_here_is_not_kept(
    tmp_path: Path, library: Library, other: Library, sample: Any
) -> None:
    # Its maker's library says that it passed; the library that imports it checks again.
    code = sample.code.replace("text.split()", "['b']")
    wrong = library.add(sample.spec, code, sample.report, sample.origin, sample.suite)
    export([wrong], tmp_path / "gift")
    (arrived,) = read_archive(tmp_path / "gift")
    with pytest.raises(ToolNotBuilt, match="case 'counts'"):
        import_tool(arrived, other, prove_again, source="gift")
    assert other.known() == {}


def rewrite(file: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rewrite("count_words/v1/tool.py", "text.split()", "text.split() "), "hashes do not match"),
        (rewrite("count_words/v1/tool.json", "an empty file", "a file"), "hashes do not match"),
        (rewrite(MANIFEST, '"sha256": "', '"sha256": "0'), "hashes do not match"),
        (rewrite(MANIFEST, '"count_words"', '"../count_words"'), "cannot be a tool"),
        (rewrite(MANIFEST, '"format": 1', '"format": 9'), "has the format 9"),
        (rewrite(MANIFEST, "{", "["), "not an archive of tools"),
        (lambda folder: (folder / "count_words/v1/tool.py").unlink(), "cannot be read"),
        (lambda folder: (folder / "count_words/v1/tool.py").write_text("#" * (MAX_FILE + 1)), "larger than"),
    ],
)
def test_an_archive_that_was_changed_is_refused_with_the_reason(
    tmp_path: Path, tool: BuiltTool, change: Callable[[Path], None], message: str
) -> None:
    export([tool], tmp_path / "gift")
    change(tmp_path / "gift")
    with pytest.raises(LibraryError, match=message):
        read_archive(tmp_path / "gift")


@pytest.mark.parametrize("kind", hostile_files.KINDS)
@pytest.mark.parametrize("name", [MANIFEST, "count_words/v1/tool.py", "count_words/v1/tool.json", "."])
def test_a_file_that_cannot_be_of_an_archive_is_refused_at_once(
    tmp_path: Path, tool: BuiltTool, name: str, kind: str
) -> None:
    place = tmp_path / "gift"
    if name != ".":
        export([tool], place)
        (place / name).unlink()
    hostile_files.make(kind, place / name)
    with hostile_files.little_memory(), pytest.raises(LibraryError):
        read_archive(place)


@pytest.mark.parametrize("name", [MANIFEST, "count_words/v1/tool.json", "count_words/v1/tool.py"])
def test_deep_nesting_in_an_archive_is_refused(tmp_path: Path, tool: BuiltTool, name: str) -> None:
    export([tool], tmp_path / "gift")
    (tmp_path / "gift" / name).write_text("[" * 100_000)
    with pytest.raises(LibraryError):
        read_archive(tmp_path / "gift")


def test_an_archive_has_a_limited_number_of_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "gift.zip", "w") as archive:
        for number in range(2 * MAX_TOOLS + 2):
            archive.writestr(f"t{number}/v1/tool.py", "x")
    with pytest.raises(LibraryError, match=f"more than {MAX_TOOLS} tools"):
        read_archive(tmp_path / "gift.zip")


def test_an_archive_is_limited_as_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "gift.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(MAX_TOTAL // MAX_FILE + 1):
            archive.writestr(f"t{number}/v1/tool.py", b" " * MAX_FILE)
    with pytest.raises(LibraryError, match="unpacked"):
        read_archive(tmp_path / "gift.zip")


def test_a_link_in_an_archive_is_not_followed(tmp_path: Path, tool: BuiltTool) -> None:
    export([tool], tmp_path / "gift")
    file = tmp_path / "gift" / "count_words" / "v1" / "tool.py"
    file.rename(tmp_path / "elsewhere.py")
    file.symlink_to(tmp_path / "elsewhere.py")
    with pytest.raises(LibraryError, match="cannot be read"):
        read_archive(tmp_path / "gift")


def test_a_zip_file_writes_nothing_but_its_tools(tmp_path: Path, tool: BuiltTool) -> None:
    export([tool], tmp_path / "gift.zip")
    with zipfile.ZipFile(tmp_path / "gift.zip", "a") as archive:
        archive.writestr("../escaped.txt", "x")
        archive.writestr("count_words/v1/../../../escaped.py", "x")
    assert [one.name for one in read_archive(tmp_path / "gift.zip")] == ["count_words"]
    assert not list(tmp_path.rglob("escaped*"))


@pytest.mark.parametrize("content", [None, b"", b"no zip file"])
def test_file_that_is_no_archive_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "gift.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LibraryError, match=r"There is no|cannot be read as"):
        read_archive(path)


def test_the_manifest_names_what_is_there(tmp_path: Path, tool: BuiltTool) -> None:
    export([tool], tmp_path / "gift")
    rows = json.loads((tmp_path / "gift" / MANIFEST).read_text())["tools"]
    assert rows == [{"name": "count_words", "version": 1, "sha256": tool.sha256}]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 5_000, "NaN", "[]", "null"])
def test_a_version_that_is_no_number_is_refused(tmp_path: Path, number: str) -> None:
    with zipfile.ZipFile(tmp_path / "gift.zip", "w") as archive:
        row = f'{{"name": "count_words", "version": {number}, "sha256": "a"}}'
        archive.writestr("orch-tools.json", f'{{"format": 1, "tools": [{row}]}}')
    with pytest.raises(LibraryError, match=r"gift\.zip"):
        read_archive(tmp_path / "gift.zip")


@pytest.mark.parametrize("at", range(0, 46, 2))
@pytest.mark.parametrize("value", [b"\xff\xff", b"\x0e\x00", b"\x00\x08"])
def test_a_damaged_directory_of_a_zip_file_is_refused(tmp_path: Path, at: int, value: bytes) -> None:
    path = tmp_path / "gift.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("orch-tools.json", '{"format": 1, "tools": []}')
    whole = bytearray(path.read_bytes())
    entry = whole.index(b"PK\x01\x02")
    whole[entry + at : entry + at + 2] = value
    whole[entry + 46] = 0xFF  # the name is not UTF-8
    path.write_bytes(whole)
    with pytest.raises(LibraryError):
        read_archive(path)
