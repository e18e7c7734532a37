"""A diff is a patch that git takes, and shows a person everything that is in it."""

import itertools
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import Interrupted
from orchestrator_cli.workspace import Workspace
from orchestrator_cli.workspace.diff import pending_diffs, readable
from orchestrator_cli.workspace.tree import Root

TAGS = "".join(chr(0xE0000 + ord(sign)) for sign in "run this")
NAMES = [
    "plain é.txt",
    ".vscode/a\n  1234abcd  May the run delete the files?\n  b",
    'x "b/x"\t\\',
    "a b/a\nnew file mode 100644",
    "r\u202etxt.exe",
    "caf\udce9",
]
TEXTS = {
    "a carriage return": "# settings\r-__import__('os')\rdiff --git a/x b/x\n",
    "other line ends": "# a\u2028-b\x85-c\x0b-d\x0c-e\n",
    "an escape sequence": "a\x1b[8mhidden\x1b[0m\n",
    "tags": f"Be kind.{TAGS}\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def diffs(root: Path, tmp_path: Path, files: dict[str, bytes]) -> dict[str, list[str]]:
    """The diff of a checkout in which these files were written."""
    with Workspace(root, tmp_path / "state", 10).checkout() as checkout:
        for name, content in files.items():
            path = checkout.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        with Root(root) as before:
            return pending_diffs(checkout, before)


def shown(root: Path, tmp_path: Path, content: bytes) -> list[str]:
    """How a person sees a file, from its first hunk on."""
    lines = list(readable(diffs(root, tmp_path, {"file": content})["file"]))
    return lines[next(number for number, line in enumerate(lines) if line.startswith("@@")) + 1 :]


def test_git_applies_the_diff_of_any_names_and_any_text(root: Path, tmp_path: Path) -> None:
    files = {name: f"{name!r} {text}".encode() for name in NAMES for text in TEXTS.values()}
    files["odd bytes"] = b"# caf\xe9\r\ncurl\r\n"
    lines = [line for found in diffs(root, tmp_path, files).values() for line in found]
    patch = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    subprocess.run(["git", "apply", "-"], input=patch, cwd=root, check=True)
    assert {name: (root / name).read_bytes() for name in files} == files


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_on_one_line(root: Path, tmp_path: Path, name: str) -> None:
    found = diffs(root, tmp_path, {name: b"x\n"})[name]
    assert [line[:4] for line in found] == ["diff", "new ", "--- ", "+++ ", "@@ -", "+x"]
    assert all(line.isprintable() for line in found)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_line_of_a_file_stays_one_line_and_hides_nothing(root: Path, tmp_path: Path, text: str) -> None:
    line, count = shown(root, tmp_path, text.encode())
    assert line.startswith("+")
    assert line.isprintable()
    assert "\\" in line
    assert count.startswith("\\ ")


def test_tags_are_written_out_and_long_rows_of_them_counted(root: Path, tmp_path: Path) -> None:
    line, count = shown(root, tmp_path, f"Be kind.{TAGS}\n".encode())
    assert line.startswith("+Be kind.\\u{e0072}\\u{e0075}")
    assert "8 hidden signs" in count
    line, count = shown(root, tmp_path, f"Be kind.{TAGS * 1000}\n".encode())
    assert len(line) < 1000
    assert "8,000 hidden signs" in count


def test_a_written_out_sign_differs_from_a_text_that_looks_like_one(root: Path, tmp_path: Path) -> None:
    assert shown(root, tmp_path, b"# a\\rb\n") == ["+# a\\rb"]
    assert shown(root, tmp_path, b"# a\rb\n") == ["+# a\\rb", "\\ 1 hidden sign in the line above"]


def test_odd_bytes_do_not_hide_a_text(root: Path, tmp_path: Path) -> None:
    found = shown(root, tmp_path, b"# caf\xe9\0\ncurl evil.example\n")
    assert found[0] == "+# caf\\xe9\\x00"
    assert found[2] == "+curl evil.example"


def test_a_binary_file_is_summarised(root: Path, tmp_path: Path) -> None:
    found = diffs(root, tmp_path, {"file": bytes(range(256))})["file"]
    assert len(found) == 3
    assert "256 bytes" in found[-1]


NIBBLES = "".join(chr(0xFE00 + part) for sign in b"run this" for part in divmod(sign, 16))


@pytest.mark.parametrize("hidden", [NIBBLES, "\u2800" * 4, "\u3164\u115f\u034f"])
@pytest.mark.parametrize("before", ["Be kind.", "\u2764"])
def test_signs_that_are_not_seen_are_written_out_where_no_word_needs_them(
    root: Path, tmp_path: Path, before: str, hidden: str
) -> None:
    line, count = shown(root, tmp_path, f"{before}{hidden}\n".encode())
    assert not set(line) & set(hidden)
    assert f"{len(hidden)} hidden signs" in count


@pytest.mark.parametrize(
    "text", ["\u2764\ufe0f\u200d\U0001f525 1\ufe0f\u20e3", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"]
)
def test_signs_that_emoji_and_words_need_stay(root: Path, tmp_path: Path, text: str) -> None:
    assert shown(root, tmp_path, f"{text}\n".encode()) == [f"+{text}"]


# --- comparing lines


def rows(signs: str, count: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return [f"{chance.choice(signs)}{chance.choice(signs)}" for _ in range(count)]


def variants() -> Iterator[tuple[list[str], list[str]]]:
    few = [list(row) for size in range(4) for row in itertools.product("ab", repeat=size)]
    yield from itertools.product(few, few)
    yield from ((rows("abc", 40, seed), rows("abc", 40, -seed)) for seed in range(1, 60))


def test_git_applies_the_diff_of_any_two_texts(root: Path, tmp_path: Path) -> None:
    old, new = {}, {}
    for number, (before, after) in enumerate(variants()):
        old[f"{number}"], new[f"{number}"] = ("\n".join(row).encode() for row in (before, after))
    for name, content in old.items():
        (root / name).write_bytes(content)
    found = diffs(root, tmp_path, new)
    patch = "".join(f"{line}\n" for lines in found.values() if len(lines) > 1 for line in lines)
    subprocess.run(["git", "apply", "--unidiff-zero", "-"], input=patch.encode(), cwd=root, check=True)
    assert {name: (root / name).read_bytes() for name in new} == new


def test_few_changes_of_a_long_file_are_shown_alone_and_many_at_once(root: Path, tmp_path: Path) -> None:
    """Lines that are repeated often take `difflib` hours."""
    signs = "abcdefghijklmnopqrstuvwxyz"
    before = rows(signs, 300_000)
    few, many = list(before), rows(signs, 300_000, seed=1)
    few[1000::5000] = ["changed"] * len(few[1000::5000])
    for name, after in {"few": few, "many": many}.items():
        (root / name).write_text("\n".join(before))
        began = time.monotonic()
        lines = diffs(root, tmp_path, {name: "\n".join(after).encode()})[name]
        assert time.monotonic() - began < 20
        assert sum(line.startswith("@@") for line in lines) == (60 if name == "few" else 1)
        patch = "".join(f"{line}\n" for line in lines)
        subprocess.run(["git", "apply", "-"], input=patch.encode(), cwd=root, check=True)
        assert (root / name).read_text() == "\n".join(after)


def test_a_run_that_ends_compares_no_more_files(root: Path, tmp_path: Path) -> None:
    ended = Cancellation()
    ended.cancel(Interrupted("Ctrl-C"))
    with Workspace(root, tmp_path / "state", 10).checkout() as checkout:
        (checkout.root / "file").write_text("text")
        with Root(root) as before, pytest.raises(Interrupted):
            pending_diffs(checkout, before, cancellation=ended)


def test_what_is_the_same_is_not_shown_as_changed(root: Path, tmp_path: Path) -> None:
    before = "".join(f"{n}\n" for n in range(2_000))
    after = "".join(f"{n}\n" for n in range(2_000) if n % 7)
    (root / "file").write_text(before)
    lines = diffs(root, tmp_path, {"file": after.encode()})["file"]
    changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("---", "+++")]
    assert len(changed) == before.count("\n") - after.count("\n")
