"""Bytes the worker sends are not trusted: code inside owns the pipes as well."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from toolsmith.sandbox import SandboxError, SandboxExecutor

FORGE = """
import json, os, struct, sys, time
rx, tx = int(sys.argv[1]), int(sys.argv[2])
def forge(message):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    data = struct.pack(">I", len(data)) + data
    while data:
        data = data[os.write(tx, data):]
"""
RESTARTED = "The sandbox was restarted; its variables are lost, files in the workspace remain."


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("os.write(tx, b'\\x7f\\xff\\xff\\xff' + b'A' * 100)", "oversized frame"),
        ("forge(b'{]x')", "malformed frame"),
        ("forge([1, 2])", "malformed frame"),
        ("forge(b'\\xff\\xfe')", "malformed frame"),
        ("forge(b'{\"t\":' + b'[' * 400_000 + b']' * 400_000 + b'}')", "malformed frame"),
        ("forge({'t': 'done', 'id': '0' * 16, 'value': 'forged'})", "a message out of order"),
        ("forge({'t': 'ready'})", "a message out of order"),
        (
            "forge({'t': 'call', 'name': 'note', 'args': {'$': 'os.system', 'v': 'x'}, 'kwargs': {}})",
            "unknown tag",
        ),
        ("forge({'t': 'call', 'name': 'note', 'args': 1, 'kwargs': 2})", "malformed call"),
        ("forge({'t': 'call', 'name': 'note'})", "malformed call"),
    ],
)
def test_a_forged_frame_ends_the_worker_and_the_next_step_works(
    sandbox: SandboxExecutor, code: str, why: str
) -> None:
    sandbox.send_tools({"note": lambda: None})
    with pytest.raises(SandboxError, match=why) as caught:
        sandbox(f"{FORGE}\n{code}\ntime.sleep(5)")
    assert str(caught.value).endswith(RESTARTED)
    assert sandbox("'rx' in globals()").output is False


def test_a_forged_call_reaches_only_tools_that_were_sent(sandbox: SandboxExecutor) -> None:
    code = """
forge({"t": "call", "name": "shell", "args": ["id"], "kwargs": {"$": "dict", "v": []}})
size = struct.unpack(">I", os.read(rx, 4))[0]
json.loads(os.read(rx, size))["error"]
"""
    assert sandbox(FORGE + code).output == "PermissionError: tool 'shell' is not granted"


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


FRAMES = """
import sys
def within(name):
    frame = sys._getframe()
    while type(frame.f_locals.get("self")).__name__ != name:
        frame = frame.f_back
    return frame.f_locals
"""


def test_a_forged_value_of_any_depth_is_a_failed_step(sandbox: SandboxExecutor) -> None:
    answer = json.dumps({"t": "done", "value": nested(400), "final": True})
    code = f"""
found = within("Generation")
found["self"]._end_the_others()
forge(b'{{"id": "%s", ' % found["request"]["id"].encode() + {answer[1:].encode()!r})
time.sleep(5)
"""
    with pytest.raises(SandboxError) as caught:
        sandbox(FORGE + FRAMES + code)
    assert "Error" not in str(caught.value), "the code itself did not fail"


@pytest.mark.parametrize("code", ["2**100_000", "final_answer(2**100_000)", "note(2**100_000)"])
def test_an_integer_that_cannot_be_written_fails_the_step(sandbox: SandboxExecutor, code: str) -> None:
    sandbox.send_tools({"note": lambda number: None})
    with pytest.raises(SandboxError, match="bits"):
        sandbox(f"kept = 1\n{code}")
    assert sandbox("kept").output == 1


@pytest.mark.slow
def test_a_forged_answer_does_not_buy_time_after_the_step(sandbox: SandboxExecutor, workspace: Path) -> None:
    code = """
request = sys._getframe(1).f_locals["request"]
forge({"t": "done", "id": request["id"], "value": "early"})
while True:
    open("ticks", "a").write("x")
    time.sleep(0.01)
"""
    with pytest.raises(SandboxError, match="processes of the step outlived it"):
        sandbox(FORGE + code)
    size = (workspace / "ticks").stat().st_size
    time.sleep(0.1)
    assert (workspace / "ticks").stat().st_size == size
    assert sandbox("1").output == 1


@pytest.mark.slow
def test_code_that_does_not_read_a_large_reply_is_ended(make_sandbox: Any) -> None:
    sandbox = make_sandbox(wall_s=0.3)
    sandbox.send_tools({"big": lambda: "z" * 4_000_000})
    call = 'forge({"t": "call", "name": "big", "args": [], "kwargs": {"$": "dict", "v": []}})'
    with pytest.raises(SandboxError):
        sandbox(f"{FORGE}\n{call}\nsum(range(10**12))")
    assert sandbox("1").output == 1


def test_a_value_is_never_unpickled_or_executed_on_the_host(sandbox: SandboxExecutor, tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    code = f"""
import os, pickle
class Trap(str):
    def __reduce__(self):
        return (os.system, ("touch {planted}",))
class Other:
    __reduce__ = Trap.__reduce__
    def __str__(self):
        return "harmless"
[Trap("text"), Other(), pickle.dumps([Other()])[:1]]
"""
    assert sandbox(code).output == ["text", "harmless", b"\x80"]
    assert not planted.exists()


@pytest.mark.parametrize("value", ["{'$': 'dict', 'v': [[1]]}", "{'$': 'tuple'}", "{'$': 'set', 'v': [[1]]}"])
def test_an_answer_with_a_malformed_value_is_refused(sandbox: SandboxExecutor, value: str) -> None:
    code = f"""
import gc
request = sys._getframe(1).f_locals["request"]
worker = next(o for o in gc.get_objects() if type(o).__name__ == "Generation")
worker._end_the_others()
forge({{"t": "done", "id": request["id"], "value": {value}}})
time.sleep(5)
"""
    with pytest.raises(SandboxError, match="no proper value"):
        sandbox(FORGE + code)
