"""The texts that leave a sandbox."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolsmith.sandbox.redaction import Aliases, format_error, format_output, without_terminal_control

NONE = Aliases({})


@given(st.text() | st.text(alphabet="\x1b[]m;0\x07\\P\x9b\n"))
def test_no_control_character_is_left(text: str) -> None:
    left = without_terminal_control(text)
    assert not [c for c in left if (ord(c) < 32 and c not in "\t\n") or 0x7F <= ord(c) < 0xA0]


@given(st.binary(), st.integers(1, 50))
def test_output_is_never_longer_than_the_limit_and_its_mark(data: bytes, limit: int) -> None:
    mark = f"\n[output cut after {limit} characters]"
    assert len(format_output(data, False, limit, NONE)) <= limit + len(mark)


def test_an_unclosed_control_string_hides_only_its_line() -> None:
    assert without_terminal_control("a\x1b]0;rest of line\nnext") == "a\nnext"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("in /home/u/ws/a.txt", "in /workspace/a.txt"),
        ("'/home/u/ws'", "'/workspace'"),
        ("/home/u/ws.", "/workspace."),
        ("/home/u/ws-2/a", "/home/u/ws-2/a"),
        ("/home/u/wsx", "/home/u/wsx"),
        ("/home/u/ws/venv/lib/x.py", "<packages>/x.py"),
    ],
)
def test_paths_get_the_names_they_have_everywhere(text: str, shown: str) -> None:
    aliases = Aliases({"/home/u/ws": "/workspace", "/home/u/ws/venv/lib": "<packages>"})
    assert aliases.hide(text) == shown


@pytest.mark.parametrize("error", [None, 3, {}, {"frames": 3}, {"frames": [1, [2], None]}])
def test_malformed_failure_still_gives_a_text(error: object) -> None:
    assert format_error(error, NONE)
