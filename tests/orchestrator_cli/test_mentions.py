"""Which words of a typed prompt name files."""

from pathlib import Path

import pytest

from orchestrator_cli.cli.mentions import mentions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.txt", "two words.txt", "b", "x)"):
        (tmp_path / name).write_text(name)
    (tmp_path / "sub").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("see @a.txt and @b", ["a.txt", "b"]),
        ("@a.txt, @b. @b", ["a.txt", "b"]),
        ("line\n@a.txt\n", ["a.txt"]),
        ("@\"two words.txt\" @'a.txt'", ["two words.txt", "a.txt"]),
        ("@x) is a name", ["x)"]),
        ("me@a.txt (@a.txt) @@a.txt @ @sub @none @~nobody/a @" + "n" * 5000, []),
        ("@\0a.txt @a\x00", []),
    ],
)
def test_words_that_name_a_file(folder: Path, prompt: str, names: list[str]) -> None:
    assert mentions(prompt, folder).files == tuple(folder / name for name in names)


def test_what_was_pasted_names_nothing(folder: Path) -> None:
    found = mentions("look at @a.txt and @b", folder, ["please look at @a.txt"])
    assert (found.files, found.pasted) == ((folder / "b",), ("@a.txt",))


def test_a_pasted_name_after_a_typed_sign_counts(folder: Path) -> None:
    assert mentions("look at @a.txt", folder, ["a.txt"]).files == (folder / "a.txt",)


def test_what_looks_like_a_file_and_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "chart.png").write_text("x")
    found = mentions("@chart.png @charts.png? @alice and me@example.org @data/a (@a.b.csv)", tmp_path)
    assert found.files == (tmp_path / "chart.png",)
    assert found.missing == ("@charts.png", "@data/a")


def test_the_beginning_of_a_name_is_named_as_missing(folder: Path) -> None:
    assert mentions("see @a and @alice, @two", folder).missing == ("@a", "@two")
