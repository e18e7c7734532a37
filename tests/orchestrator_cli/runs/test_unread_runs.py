"""A run whose journal cannot be read is named, and the others are listed."""

import json
import os
from datetime import date
from pathlib import Path

from orchestrator_cli.events import RunStarted
from orchestrator_cli.journal.journal import EventStream, read_journal
from orchestrator_cli.runs.find import recent
from orchestrator_cli.runs.stats import read_stats
from orchestrator_cli.settings import Settings


def test_damaged_runs_are_named_beside_the_others(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", workspace=tmp_path)
    journals = [
        settings.home / "runs" / name / "journal.jsonl" for name in ("whole", "damaged", "pipe", "deep")
    ]
    for path in journals:
        stream = EventStream(path.parent.name, path, [])
        stream.emit(RunStarted(prompt="p", workspace=str(tmp_path), models={}, sandbox="s", version="0"))
        stream.close()
    row = json.loads(journals[1].read_bytes())
    row["large"] = [{"at": ["data", "prompt"], "sha256": "../lock", "form": "text"}]
    journals[1].write_text(json.dumps(row, separators=(",", ":")) + "\n")
    journals[2].unlink()
    os.mkfifo(journals[2])
    with journals[3].open("a") as file:
        file.write('{"workspace":' + "[" * 100_000 + "\n")
    unread: list[str] = []
    found = recent(settings, everywhere=True, limit=9, on_unread=unread.append)
    assert [one.where.run for one in found] == ["deep", "whole"]
    assert ["pipe" in unread[0], "damaged" in unread[1], len(unread)] == [True, True, 2]


def test_numbers_that_are_none_lose_their_line_only(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", workspace=tmp_path)
    path = settings.home / "runs" / f"{date.today():%Y%m%d}-120000-a" / "journal.jsonl"
    fact = RunStarted(prompt="p", workspace=str(tmp_path), models={}, sandbox="s", version="0")
    for _ in range(2):
        stream = EventStream(path.parent.name, path, [])
        stream.emit(fact)
        stream.close()
        with path.open("a") as file:
            data = '"time":"2026-01-01T00:00:00Z","data":{"kind":"Noticed","message":"m"}'
            file.writelines(
                f'{{"run":"{path.parent.name}","seq":{seq},"schema":{schema},{data}}}\n'
                for seq, schema in (("1e999", "1"), ("9" * 5_000, "1"), ("1", "1e999"), ("1", "9" * 5_000))
            )
    assert [event.seq for event in read_journal(path)] == [1, 2]
    unread: list[str] = []
    found = recent(settings, everywhere=True, limit=9, on_unread=unread.append)
    assert [one.where.run for one in found] == [path.parent.name]
    read_stats(settings, everywhere=True, weeks=2, today=date.today(), on_unread=unread.append)
    assert unread == []
