"""Steps: what lasts, what is shown, how failures are described."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from toolsmith.sandbox import SandboxError, SandboxExecutor


def failure(sandbox: SandboxExecutor, code: str) -> str:
    with pytest.raises(SandboxError) as caught:
        sandbox(dedent(code).strip())
    return str(caught.value)


def test_variables_functions_and_imports_last_from_step_to_step(sandbox: SandboxExecutor) -> None:
    sandbox("import math\nx = 20\ndef twice(n):\n    return 2 * n")
    assert sandbox("twice(x) + math.floor(2.5)").output == 42


def test_the_value_of_a_last_expression_is_the_output(sandbox: SandboxExecutor) -> None:
    assert sandbox("1 + 1").output == 2
    assert sandbox("y = 5").output is None
    assert sandbox("for i in range(3): pass").output is None
    assert sandbox("").output is None


def test_plain_values_arrive_as_they_are(sandbox: SandboxExecutor) -> None:
    code = "import datetime\n{'a': (1, 2.5), 'b': {3}, 4: b'x', 'd': datetime.date(2024, 1, 2), 'n': None}"
    value = sandbox(code).output
    assert value["a"] == (1, 2.5)
    assert value["b"] == {3}
    assert value[4] == b"x"
    assert value["d"].isoformat() == "2024-01-02"


def test_other_values_arrive_as_text_without_addresses(sandbox: SandboxExecutor) -> None:
    assert sandbox("class Thing: pass\nThing()").output == "<__main__.Thing object>"


NOT_A_TIME = (
    "type('NaTType', (__import__('datetime').datetime,), "
    "{'__eq__': lambda *_: False, '__ne__': lambda *_: True, "
    "'isoformat': lambda _: 'NaT', '__repr__': lambda _: 'NaT'})(1, 1, 1)"
)
"""What pandas' NaT is."""


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("{1: 'a', 2.5: 'b', None: 'c'}", {1: "a", 2.5: "b", None: "c"}),
        ("(1, {2})", (1, {2})),
        ("__import__('pathlib').Path('a') / 'b'", "a/b"),
        ("__import__('numpy').zeros(20_000)", [0.0] * 20_000),
        ("[[], []]", [[], []]),
    ],
)
def test_a_result_that_json_can_hold_is_handed_over(sandbox: SandboxExecutor, code: str, value: Any) -> None:
    if "numpy" in code:
        pytest.importorskip("numpy")
    output = sandbox(f"final_answer({code})")
    assert (output.output, output.is_final_answer) == (value, True)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("float('nan')", "nan is not a number"),
        ("{'a': [1, float('-inf')]}", "-inf is not a number"),
        ("{1: 1, '1': 2}", "the keys 1 and '1' are the same"),
        ("[{'true': 1, True: 2}]", "the keys 'true' and True are the same"),
        ("{(1, 2): 3}", "a key is a tuple"),
        ("(n for n in range(3))", "a generator is not plain data"),
        ("{'a': 1}.keys()", "a dict_keys is not plain data"),
        ("print", "a builtin_function_or_method is not plain data"),
        ("__import__('decimal').Decimal('1.1')", "a Decimal is not plain data"),
        ("b'x'", "bytes are not plain data"),
        (NOT_A_TIME, "NaT is not a date"),
        ("10**5000", "an integer has more than"),
        ("(lambda found: found.append(found) or found)([])", "it contains itself"),
        ("__import__('functools').reduce(lambda found, _: [found], range(50), 0)", "nested more than"),
    ],
)
def test_a_result_that_json_would_change_is_refused_with_the_reason(
    sandbox: SandboxExecutor, code: str, reason: str
) -> None:
    said = failure(sandbox, f"kept = 1\nfinal_answer({code})")
    assert reason in said
    assert "line 2" in said
    assert sandbox("kept").output == 1


def test_what_is_printed_comes_back_as_logs(sandbox: SandboxExecutor) -> None:
    code = "import sys, os\nprint('one')\nprint('two', file=sys.stderr)\nos.system('echo three')"
    assert sandbox(code).logs == "one\ntwo\nthree\n"


def test_logs_of_a_failed_step_are_kept_for_smolagents(sandbox: SandboxExecutor) -> None:
    failure(sandbox, "print('so far')\n1 / 0")
    assert sandbox.state["_print_outputs"] == "so far\n"


def test_terminal_control_is_taken_out_of_logs(sandbox: SandboxExecutor) -> None:
    code = r"print('A\x1b]52;c;Y2FuYXJ5\x07B\x1b[31mC\x9bD\x1b]0;title\x1b\\E')"
    assert sandbox(code).logs == "ABCDE\n"


def test_failure_shows_frames_and_message(sandbox: SandboxExecutor) -> None:
    message = failure(
        sandbox,
        """
        def f(x):
            return 1 / x

        f(0)
        """,
    )
    assert message == "  line 4: f(0)\n  line 2, in f: return 1 / x\nZeroDivisionError: division by zero"


def test_syntax_error_has_no_marker_lines(sandbox: SandboxExecutor) -> None:
    assert failure(sandbox, "x = 1\ny = = 2") == "  line 2: y = = 2\nSyntaxError: invalid syntax"


def test_frames_of_libraries_are_left_out(sandbox: SandboxExecutor) -> None:
    message = failure(sandbox, "import json\njson.loads('{')")
    assert message.splitlines()[0] == "  line 2: json.loads('{')"
    assert message.splitlines()[1].startswith("JSONDecodeError: Expecting property name")
    assert len(message.splitlines()) == 2


def test_failure_in_a_comprehension_shows_the_line_inside_it(sandbox: SandboxExecutor) -> None:
    message = failure(sandbox, "rows = [1, 0]\n[\n    1 / row\n    for row in rows\n]")
    assert message == "  line 3: 1 / row\nZeroDivisionError: division by zero"


def test_deep_recursion_is_shortened(sandbox: SandboxExecutor) -> None:
    message = failure(sandbox, "def f(n):\n    return f(n + 1)\nf(0)").splitlines()
    assert message[0] == "  line 3: f(0)"
    assert "  ..." in message
    assert message[-1].startswith("RecursionError")
    assert len(message) < 10


def test_variables_set_before_a_failure_are_kept(sandbox: SandboxExecutor) -> None:
    failure(sandbox, "kept = 1\nraise ValueError('no')")
    assert sandbox("kept").output == 1


def test_failure_shows_no_host_path(sandbox: SandboxExecutor, workspace: Path) -> None:
    text = failure(sandbox, "import os\nprint(os.getcwd())\nopen(os.getcwd() + '/missing.txt')")
    assert text.endswith("FileNotFoundError: [Errno 2] No such file or directory: '/workspace/missing.txt'")
    assert sandbox.state["_print_outputs"] == "/workspace\n"
    assert str(workspace) not in str(
        sandbox("import os, tempfile\n[os.getcwd(), tempfile.gettempdir()]").output
    )


def test_paths_of_the_interpreter_have_the_same_name_everywhere(sandbox: SandboxExecutor) -> None:
    message = failure(sandbox, "from json import nothing_of_this_name")
    last = "ImportError: cannot import name 'nothing_of_this_name' from 'json' (<python>/json/__init__.py)"
    assert message.splitlines()[-1] == last


def test_the_order_of_sets_is_the_same_in_every_sandbox(sandbox: SandboxExecutor) -> None:
    shown = sandbox("str({'a', 'b', 'c', 'd', 'e', 'f'})").output
    code = "print({'a', 'b', 'c', 'd', 'e', 'f'})"
    plain = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "0"}, capture_output=True, text=True
    )
    assert shown == plain.stdout.strip()


def test_files_are_written_to_the_workspace_and_modules_there_can_be_imported(
    sandbox: SandboxExecutor, workspace: Path
) -> None:
    sandbox("open('mine.py', 'w').write('answer = 42\\n')")
    assert sandbox("import mine\nmine.answer").output == 42
    assert sorted(path.name for path in workspace.iterdir()) == ["mine.py"], "no __pycache__"


def test_temporary_files_do_not_end_up_in_the_workspace(sandbox: SandboxExecutor, workspace: Path) -> None:
    code = """
    import tempfile, pathlib, os
    kept = tempfile.NamedTemporaryFile(delete=False)
    kept.write(b"x")
    pathlib.Path.home().joinpath(".cache").mkdir()
    os.path.dirname(kept.name)
    """
    assert sandbox(dedent(code)).output == "/tmp"
    assert list(workspace.iterdir()) == []


def test_standard_input_is_empty(sandbox: SandboxExecutor) -> None:
    assert failure(sandbox, "input()").endswith("EOFError: EOF when reading a line")


def test_packages_of_the_users_environment_can_be_imported(sandbox: SandboxExecutor) -> None:
    assert sandbox("import pydantic\npydantic.TypeAdapter(int).validate_python('3')").output == 3


def test_nothing_a_step_started_outlives_it(sandbox: SandboxExecutor, workspace: Path) -> None:
    sandbox("import subprocess\np = subprocess.Popen(['sh', '-c', 'sleep 0.2; touch late'])")
    sandbox("import time\ntime.sleep(0.4)")
    assert list(workspace.iterdir()) == []


def test_a_fork_that_comes_to_the_end_of_the_step_is_not_the_step(sandbox: SandboxExecutor) -> None:
    code = "import os, time\nparent = os.getpid()\nos.fork() and time.sleep(0.2)\nos.getpid() == parent"
    assert sandbox(code).output is True


def test_text_that_is_no_utf_8_is_made_so(sandbox: SandboxExecutor) -> None:
    assert sandbox(r"['a\udcffb', {'\ud800': 1}]").output == ["a?b", {"?": 1}]
    assert failure(sandbox, r"raise ValueError('\udcff')").endswith("ValueError: ?")


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import ctypes\nctypes.string_at(0)", "the step crashed (SIGSEGV)"),
        ("import os\nos._exit(3)", "the step ended its own process (exit status 3)"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "the step crashed (SIGKILL)"),
    ],
    ids=["segfault", "exit", "suicide"],
)
def test_a_crash_rolls_the_state_back(sandbox: SandboxExecutor, code: str, what: str) -> None:
    sandbox("x = 'before'")
    message = failure(sandbox, f"x = 'after'\n{code}")
    assert message == f"{what}. The Python state is as it was before this step; files it wrote remain."
    assert sandbox("x").output == "before"


def test_a_value_too_large_to_pass_does_not_fail_the_step(sandbox: SandboxExecutor) -> None:
    assert "at most 8 MB" in sandbox("big = 'x' * 10_000_000\nbig").output
    assert sandbox("len(big)").output == 10_000_000
