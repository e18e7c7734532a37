"""Programs of the user at events of real runs: which they get, and that nothing they do stops a run."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, answered

KEEP = "import sys; open({path!r}, 'a').write(sys.stdin.read() + chr(10))"


def hook(*on: str, code: str, **more: Any) -> str:
    """A table of orch.toml."""
    rows = {"on": list(on), "command": [sys.executable, "-c", code], **more}
    return "\n".join(["[[hooks]]", *(f"{name} = {json.dumps(value)}" for name, value in rows.items()), ""])


@pytest.fixture
def kept(orch: Orch, endpoint: Endpoint) -> Path:
    """Where programs put what they get. The run answers at once."""
    endpoint.reply = Cast(planner=[answered("hello")])
    return orch.home.parent / "kept"


def set_up(orch: Orch, *hooks: str) -> None:
    (orch.home / "orch.toml").write_text("\n".join(hooks), encoding="utf-8")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.both_ways
def test_a_program_gets_the_events_that_it_names_in_their_order(orch: Orch, kept: Path) -> None:
    set_up(orch, hook("RunStarted", "Spent", "RunFinished", code=KEEP.format(path=str(kept))))
    done = orch("ask", "Say \x1b[31mhello.")
    assert (done.code, done.out) == (0, "hello\n"), done.err
    found = [one["data"] for one in lines(kept)]
    assert [one["kind"] for one in found] == ["RunStarted", "Spent", "RunFinished"]
    assert found == [one for one in orch.events() if one["kind"] in ("RunStarted", "Spent", "RunFinished")]
    assert "\x1b" not in kept.read_text()


@pytest.mark.parametrize(
    ("code", "more", "said"),
    [
        ("import sys; sys.exit('no such \x1b[31mchannel')", {}, "exit code 1: no such channel"),
        ("import time; time.sleep(60)", {"timeout_s": 0.3}, "longer than 0.3 s"),
        ("", {"command": ["/nowhere/at-all"]}, "at-all"),
    ],
    ids=["fails", "hangs", "missing"],
)
def test_a_hook_that_does_not_work_is_a_note(
    orch: Orch, kept: Path, code: str, more: dict[str, Any], said: str
) -> None:
    set_up(
        orch,
        hook("RunStarted", "Spent", code=code, **more),
        hook("RunFinished", code=KEEP.format(path=str(kept))),
    )
    done = orch("ask", "Say hello.")
    assert (done.code, done.out) == (0, "hello\n"), done.err
    notes = [line for line in done.err.splitlines() if line.startswith("hooks: ")]
    assert len(notes) == 1  # the same is said once
    assert said in notes[0]
    assert [one["data"]["kind"] for one in lines(kept)] == ["RunFinished"]


@pytest.mark.thorough
def test_the_end_of_a_run_does_not_wait_for_ever(orch: Orch, kept: Path) -> None:
    code = f"import sys, time; open({str(kept)!r}, 'a').write('x'); time.sleep(60)"
    set_up(orch, hook("RunStarted", "Spent", "RunFinished", code=code, timeout_s=60))
    began = time.monotonic()
    done = orch("ask", "Say hello.")
    assert done.code == 0
    assert time.monotonic() - began < 30
    assert kept.read_text() == "x"
    assert "when the run had ended" in done.err


@pytest.mark.thorough
def test_an_orch_of_a_hook_starts_no_hooks(orch: Orch, kept: Path, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[answered("one"), answered("two")])
    code = (
        "import os, subprocess, sys; sys.stdin.read(); "
        f"open({str(kept)!r}, 'a').write(os.environ.get('ORCH_HOOKED', '') + os.getcwd() + chr(10)); "
        f"os.chdir({str(orch.workspace)!r}); "
        "subprocess.run([sys.executable, '-m', 'orchestrator_cli', 'ask', 'x'])"
    )
    set_up(orch, hook("RunStarted", code=code, timeout_s=60))
    assert orch("ask", "Say hello.").code == 0
    assert kept.read_text() == "1/\n"


def test_a_folder_can_set_no_hooks_and_no_collector(orch: Orch, kept: Path) -> None:
    for text in (hook("RunStarted", code=KEEP.format(path=str(kept))), '[otel]\nendpoint = "http://x:1"\n'):
        (orch.workspace / "orch.toml").write_text(text, encoding="utf-8")
        done = orch("ask", "-y", "Say hello.")
        assert done.code == 3
        assert "no workspace can set" in done.error
    assert not kept.exists()


@pytest.mark.parametrize("text", [hook("RunBegan", code=""), hook("AnswerDelta", code=""), hook(code="")])
def test_a_hook_names_kinds_of_events(orch: Orch, text: str) -> None:
    set_up(orch, text)
    done = orch("config")
    assert done.code == 3
    assert "hooks" in done.error
