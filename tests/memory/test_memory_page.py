"""The examples of docs/memory.md run as they stand there, one after the other."""

import re
from pathlib import Path
from typing import Any

import pytest

from memory import Scope
from memory.sessions import turn_record

PAGE = Path(__file__).parents[2] / "docs" / "memory.md"


def test_the_examples_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from datetime import UTC, datetime

    from memory import open_store

    monkeypatch.chdir(tmp_path)
    said = turn_record(
        session="monday",
        seq=0,
        speaker="Ada",
        text="I moved to Bergen in April.",
        time=datetime(2026, 5, 4, 14, 5, tzinfo=UTC),
        scope=Scope(project="engine"),
    )
    open_store(Path("my-memory")).add([said])
    names: dict[str, Any] = {}
    for example in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S):
        exec(example, names)
    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == ["True [4 May 2026 at 14:05] Ada: I moved to Bergen in April.", "1 0 0"]
    assert shown[2].endswith(" ()")
