"""Tools: on the host, inside, and the final answer."""

import os
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from smolagents import tool

from toolsmith.sandbox import SandboxError, SandboxExecutor

DOUBLE = '''
import os
from smolagents import tool

@tool
def double(x: int) -> int:
    """Twice the number.

    Args:
        x: the number
    """
    if x < 0:
        raise ValueError(f"x must not be negative, not {x}")
    loaded.append(x)
    return 2 * x

loaded = []

@tool
def seen() -> list:
    """What was doubled so far."""
    return loaded

@tool
def where() -> str:
    """Process environment."""
    return os.environ.get("CANARY", "inside")
'''


@tool  # type: ignore[untyped-decorator]
def host_pid(note: str) -> dict[str, Any]:
    """Tells which process runs it.

    Args:
        note: given back
    """
    return {"pid": os.getpid(), "note": note, "pair": (1, 2)}


def test_a_host_tool_runs_on_the_host_and_returns_its_value(sandbox: SandboxExecutor) -> None:
    sandbox.send_tools({"host_pid": host_pid})
    assert sandbox("host_pid(note='hi')").output == {"pid": os.getpid(), "note": "hi", "pair": (1, 2)}
    assert sandbox("a = [host_pid(str(i))['note'] for i in range(3)]\na").output == ["0", "1", "2"]


def test_a_host_tools_failure_arrives_inside_with_its_message(sandbox: SandboxExecutor) -> None:
    def search(query: str) -> str:
        raise LookupError(f"nothing found for {query!r}")

    sandbox.send_tools({"search": search})
    code = "try:\n    search('x')\nexcept RuntimeError as error:\n    message = str(error)\nmessage"
    assert sandbox(code).output == "LookupError: nothing found for 'x'"
    with pytest.raises(SandboxError, match="RuntimeError: LookupError: nothing found for 'x'"):
        sandbox("search('x')")


def test_a_tool_that_was_not_sent_does_not_exist(sandbox: SandboxExecutor) -> None:
    sandbox.send_tools({"host_pid": host_pid})
    with pytest.raises(SandboxError, match="NameError: name 'shell' is not defined"):
        sandbox("shell('id')")


def test_a_tool_taken_away_is_gone(sandbox: SandboxExecutor) -> None:
    sandbox.send_tools({"host_pid": host_pid})
    sandbox("mine = host_pid")
    sandbox.send_tools({})
    with pytest.raises(SandboxError, match="NameError"):
        sandbox("host_pid('x')")
    with pytest.raises(SandboxError, match="PermissionError: tool 'host_pid' is not granted"):
        sandbox("mine('x')")


def test_calls_of_host_tools_are_counted(make_sandbox: Any) -> None:
    sandbox = make_sandbox(calls=3)
    sandbox.send_tools({"host_pid": host_pid})
    with pytest.raises(SandboxError, match="PermissionError: more than 3 calls of tools in one step"):
        sandbox("n = 0\nfor i in range(5):\n    host_pid('x')\n    n += 1")
    assert sandbox("n").output == 3
    assert sandbox("host_pid('next step')['note']").output == "next step"


@pytest.mark.slow
def test_time_spent_on_the_host_is_not_charged_to_the_step(make_sandbox: Any) -> None:
    sandbox = make_sandbox(wall_s=0.5)
    sandbox.send_tools({"slow": lambda: time.sleep(1.8)})
    assert sandbox("slow()\n'done'").output == "done"


def test_nothing_inside_runs_while_a_host_tool_works(sandbox: SandboxExecutor) -> None:
    sandbox.send_tools({"slow": lambda: time.sleep(0.4)})
    code = """
    import subprocess, os
    ticking = subprocess.Popen(["sh", "-c", "while true; do echo -n x >> ticks; sleep 0.02; done"])
    slow()
    os.path.getsize("ticks") if os.path.exists("ticks") else 0
    """
    assert sandbox(dedent(code)).output < 8


def test_paths_have_their_inner_names_on_both_ways(sandbox: SandboxExecutor, workspace: Path) -> None:
    seen = []

    def read(path: str) -> str:
        seen.append(path)
        raise FileNotFoundError(f"no file {workspace}/{path}")

    sandbox.send_tools({"read": read, "root": lambda: str(workspace)})
    with pytest.raises(SandboxError) as caught:
        sandbox("import os\nread(os.getcwd() + '/a')")
    assert str(caught.value).splitlines()[-1].endswith("FileNotFoundError: no file /workspace//workspace/a")
    assert seen == ["/workspace/a"]
    assert sandbox("import os\n[root() == os.getcwd(), root()]").output == [True, "/workspace"]


def test_values_too_large_to_pass_are_refused_and_the_state_is_kept(sandbox: SandboxExecutor) -> None:
    sandbox.send_tools({"big": lambda: "x" * (9 << 20)})
    sandbox("x = 1")
    with pytest.raises(SandboxError, match="ValueError: the value takes 9 MB; at most 8 MB can be passed"):
        sandbox("big()")
    with pytest.raises(SandboxError, match="at most 8 MB can be passed"):
        sandbox.call_tool(DOUBLE, "double", {"x": "x" * (9 << 20)})
    with pytest.raises(SandboxError, match="ValueError: the value takes 9 MB"):
        sandbox("final_answer('x' * (9 << 20))")
    assert sandbox("x").output == 1


def test_an_interrupted_host_tool_does_not_leave_half_an_exchange(sandbox: SandboxExecutor) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    sandbox.send_tools({"stop": stop})
    with pytest.raises(KeyboardInterrupt):
        sandbox("stop()")
    assert sandbox("1").output == 1


def test_tools_can_be_called_from_threads_inside(sandbox: SandboxExecutor) -> None:
    sandbox.send_tools({"host_pid": host_pid})
    code = """
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(4) as pool:
        notes = list(pool.map(lambda i: host_pid(str(i))["note"], range(8)))
    notes
    """
    assert sandbox(dedent(code)).output == [str(i) for i in range(8)]


def test_tools_can_be_called_from_processes_inside(sandbox: SandboxExecutor) -> None:
    sandbox.send_tools({"host_pid": host_pid})
    code = """
    import os
    for child in range(4):
        if os.fork() == 0:
            same = all(host_pid(f"{child} {i}")["note"] == f"{child} {i}" for i in range(10))
            os._exit(0 if same else 1)
    sum(os.wait()[1] for _ in range(4))
    """
    assert sandbox(dedent(code)).output == 0


def test_a_tool_in_another_sandbox_is_counted_apart_and_keeps_its_errors_types(make_sandbox: Any) -> None:
    sandbox = make_sandbox(calls=1, built_calls=3)

    class Divide:
        own_sandbox = True

        def __call__(self, number: int) -> float:
            if number > 1:
                raise SandboxError("ZeroDivisionError: by 0", ("ZeroDivisionError", "by 0"))
            return number / 1

    sandbox.send_tools({"divide": Divide(), "host_pid": host_pid})
    sandbox("host_pid('x')\nfound = [divide(0), divide(1)]")
    with pytest.raises(SandboxError, match="PermissionError: more than 3 calls"):
        sandbox("for i in range(4):\n    try:\n        divide(2)\n    except ZeroDivisionError: pass")
    with pytest.raises(SandboxError, match="object is not plain data"):
        sandbox("divide(object())")
    assert sandbox("found").output == [0, 1]


def test_call_tool_takes_paths_of_the_workspace_as_they_are_shown(sandbox: SandboxExecutor) -> None:
    source = "import os\ndef read(path): return open(path).read(), path == os.path.abspath('a.txt')"
    sandbox("open('a.txt', 'w').write('seen')")
    assert sandbox.call_tool(source, "read", {"path": "/workspace/a.txt"}) == ("seen", True)


@pytest.mark.parametrize("imports", [True, False])
def test_modules_of_the_workspace_are_imported_where_they_may_be(make_sandbox: Any, imports: bool) -> None:
    sandbox = make_sandbox(given={"imports": imports})
    source = "def colour():\n    import colorsys\n    return hasattr(colorsys, 'planted')"
    sandbox("open('colorsys.py', 'w').write('planted = 1')")
    assert sandbox.call_tool(source, "colour", {}) is imports


def test_a_read_only_sandbox_does_not_answer_for_what_others_write(
    make_sandbox: Any, workspace: Path
) -> None:
    sandbox = make_sandbox(writable=False, disk_mb=100)
    assert sandbox("1").output == 1
    with (workspace / "large").open("w") as large:
        large.truncate(200 << 20)
    assert sandbox("2").output == 2


def test_call_tool_returns_the_value_and_loads_a_source_once(sandbox: SandboxExecutor) -> None:
    assert sandbox.call_tool(DOUBLE, "double", {"x": 4}) == 8
    assert sandbox.call_tool(DOUBLE, "double", {"x": 5}) == 10
    assert sandbox.call_tool(DOUBLE, "seen", {}) == [4, 5]


def test_call_tool_tells_the_tools_own_failure_first(sandbox: SandboxExecutor) -> None:
    with pytest.raises(SandboxError) as caught:
        sandbox.call_tool(DOUBLE, "double", {"x": -1})
    lines = str(caught.value).splitlines()
    assert lines[0] == "ValueError: x must not be negative, not -1"
    assert lines[1].startswith("  line 13, in double: raise ValueError")


def test_call_tool_with_wrong_arguments_raises(sandbox: SandboxExecutor) -> None:
    with pytest.raises(SandboxError, match=r"^TypeError: double\(\) got an unexpected keyword argument 'y'"):
        sandbox.call_tool(DOUBLE, "double", {"y": 1})


@pytest.mark.parametrize("call", ["final_answer(42)", "final_answer(answer=42)", "final_answer(result=42)"])
def test_the_final_answer_ends_the_step(sandbox: SandboxExecutor, call: str) -> None:
    code = f"print('said')\ntry:\n    {call}\nexcept Exception:\n    pass\nprint('never')"
    result = sandbox(code)
    assert (result.output, result.is_final_answer, result.logs) == (42, True, "said\n")


@pytest.mark.parametrize("caught", ["except", "except BaseException", "finally"])
def test_code_cannot_swallow_the_final_answer(sandbox: SandboxExecutor, caught: str) -> None:
    result = sandbox(f"try:\n    final_answer(7)\n{caught}:\n    x = 1 / 0")
    assert (result.output, result.is_final_answer) == (7, True)


def test_the_first_final_answer_of_a_step_counts(sandbox: SandboxExecutor) -> None:
    assert sandbox("try:\n    final_answer(7)\nexcept:\n    final_answer(None)").output == 7
    assert sandbox("1").is_final_answer is False


@pytest.mark.parametrize(
    "steps",
    [
        ["final_answer = 2", "final_answer(3)"],
        ["final_answer = 2\nfinal_answer(final_answer + 1)"],
        ["final_answer: int = 2", "final_answer(final_answer + 1)"],
        ["for final_answer in (1, 2): pass", "x = [final_answer]", "final_answer(x[0] + 1)"],
        ["def final_answer(x): return x", "final_answer(3)"],
        ["import math as final_answer", "final_answer(3)"],
        ["text = 'final_answer = 2 and final_answer(1)'", "final_answer(3 if '= 2' in text else 0)"],
    ],
)
def test_a_variable_named_final_answer_leaves_the_function(
    sandbox: SandboxExecutor, steps: list[str]
) -> None:
    *before, last = map(sandbox, steps)
    assert not any(result.is_final_answer for result in before)
    assert (last.output, last.is_final_answer) == (3, True)


def test_state_is_kept_after_a_final_answer(sandbox: SandboxExecutor) -> None:
    sandbox("x = [1]\nfinal_answer(x)")
    assert sandbox("x").output == [1]


def test_variables_sent_are_names_inside(sandbox: SandboxExecutor) -> None:
    sandbox.send_variables({"rows": [1, 2], "name": "n"})
    assert sandbox("rows + [name]").output == [1, 2, "n"]


def test_tools_and_variables_are_there_again_after_a_restart(sandbox: SandboxExecutor) -> None:
    sandbox.send_variables({"rows": [1, 2]})
    sandbox.send_tools({"host_pid": host_pid})
    with pytest.raises(SandboxError, match="The sandbox was restarted; its variables are lost"):
        sandbox("import os, sys\nlost = 1\nos.write(int(sys.argv[2]), b'\\xff' * 8)\nwhile True: pass")
    assert sandbox("[rows, host_pid('x')['note'], 'lost' in globals()]").output == [[1, 2], "x", False]


def test_call_tool_tells_which_built_in_error_a_librarys_own_is_a_kind_of(sandbox: SandboxExecutor) -> None:
    source = "import json\ndef read(text): return json.loads(text)"
    with pytest.raises(SandboxError, match=r"^ValueError: JSONDecodeError: Expecting value"):
        sandbox.call_tool(source, "read", {"text": "?"})
    with pytest.raises(SandboxError, match=r"^TypeError: read\(\) missing"):
        sandbox.call_tool(source, "read", {})


def test_a_workspace_that_goes_during_a_step_is_a_fault_of_the_step(
    sandbox: SandboxExecutor, workspace: Path
) -> None:
    @tool  # type: ignore[untyped-decorator]
    def remove() -> str:
        """Removes the workspace."""
        workspace.rmdir()
        return "gone"

    sandbox.send_tools({"remove": remove})
    with pytest.raises(SandboxError, match="cannot be measured"):
        sandbox("remove()")
