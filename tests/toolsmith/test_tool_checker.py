"""The rules for a tool's module, and the list of its functions."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolsmith.built import FunctionSignature
from toolsmith.proof.cases import Suite
from toolsmith.proof.checker import check, functions
from toolsmith.spec import ToolSpec

HEAD = "from smolagents import tool\n"
DOC = '"""Count.\n\n    Args:\n        path: file\n        top: number\n    """'


def test_a_sound_module_has_no_faults(sample: Any) -> None:
    assert check(sample.code, sample.spec) == ()


@pytest.mark.parametrize(
    "extra",
    [
        "import re\n_WORD = re.compile('x')\nSTOP = frozenset({'a', 'b'})\nA, B = 1, 2",
        "from dataclasses import dataclass\n\n@dataclass\nclass Row:\n    'A row.'\n    name: str = 'x'",
        "from enum import Enum\n\nclass Colour(Enum):\n    '''A colour.'''\n    RED = 'red'",
        "try:\n    import yaml\nexcept ImportError:\n    yaml = None",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pathlib import PurePath",
        "WORDS = 'a b c'.split()\nKEY = lambda word: word.lower()",
        "import os\n\ndef size(path: str) -> int:\n    '''Size.'''\n    return os.path.getsize(path)",
        "def _helper(input, vars):\n    return input + vars",
        "import urllib.parse\nfrom os import path",
    ],
)
def test_what_a_module_may_hold_besides(sample: Any, extra: str) -> None:
    assert check(f"{sample.code}\n\n{extra}\n", sample.spec) == ()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("print('hello')", "acts when the module is imported"),
        ("open('x', 'w').write('y')", "acts when the module is imported"),
        ("for n in range(3):\n    pass", "acts when the module is imported"),
        ("if __name__ == '__main__':\n    count_words('a')", "acts when the module is imported"),
        ("X = open('x').read()", "open() is called at import"),
        ("def f(x=open('a')):\n    '''F.'''", "open() is called at import"),
        ("class A(make()):\n    '''A.'''", "make() is called at import"),
        ("class A:\n    '''A.'''\n    print(1)", "acts when the module is imported"),
        ("Path.home = None", "changes something at import"),
        ("from functools import lru_cache\n\n@lru_cache\ndef f():\n    '''F.'''", "the decorator @lru_cache"),
        ("import socket", "socket is imported: a tool has no network"),
        ("from urllib.request import urlopen", "urllib.request is imported"),
        ("import urllib\n\ndef f():\n    'F.'\n    urllib.request.urlopen('')", "urllib.request is imported"),
        ("import subprocess as s", "subprocess is imported"),
        ("import ctypes", "ctypes is imported"),
        ("import pickle", "pickle is imported"),
        ("import importlib", "importlib is imported"),
        ("import os as o\n\ndef f():\n    '''F.'''\n    o.system('x')", "os.system is imported"),
        ("from os import environ", "os.environ is imported"),
        ("import os\n\ndef f():\n    '''F.'''\n    return os.environ['KEY']", "os.environ is imported"),
        ("import os\n\ndef f():\n    '''F.'''\n    os.execv('a', [])", "os.execv is imported"),
        ("def f(x):\n    '''F.'''\n    return eval(x)", "eval is used"),
        ("def f(x):\n    '''F.'''\n    exec(x)", "exec is used"),
        ("def f(x):\n    '''F.'''\n    return __import__(x)", "__import__ is used"),
        ("g = eval", "eval is used"),
        ("def f(x):\n    '''F.'''\n    return x.__class__.__subclasses__()", ".__subclasses__ is used"),
        ("def f(x, y):\n    '''F.'''\n    return getattr(x, y)", "getattr with a computed name"),
        ("def f():\n    '''F.'''\n    global N\n    N = 1", "global N: keep no state"),
        ("def f():\n    '''F.'''\n    try:\n        pass\n    except:\n        pass", "a bare except"),
        ("def f():\n    'F.'\n    try:\n        f()\n    except BaseException: pass", "except BaseException"),
        ("from os.path import *", "name what is imported"),
        ("from . import other", "a relative import"),
        ("def f():\n    return 1", "f has no docstring"),
        ("class A:\n    '''A.'''\n    def run(self):\n        return 1", "A.run has no docstring"),
        ("def count_words():\n    '''Again.'''", "exactly one function count_words"),
        ("PATTERN = '\\d'", "invalid escape sequence"),
    ],
)  # fmt: skip
def test_breach_names_its_line(sample: Any, extra: str, message: str) -> None:
    faults = check(f"{sample.code}\n\n{extra}\n", sample.spec)
    assert any(message in fault for fault in faults), faults
    assert all(fault.startswith("line ") for fault in faults)


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("def words(path: str, top: int = 3) -> dict:", "exactly one function count_words"),
        ("async def count_words(path: str, top: int = 3) -> dict:", "exactly one function count_words"),
        ("def count_words(top: int = 3, path: str = '') -> dict:", "must be (path, top) in this order"),
        ("def count_words(path: str) -> dict:", "must be (path, top) in this order, not (path)"),
        ("def count_words(path: str, *, top: int = 3) -> dict:", "only have plain parameters"),
        ("def count_words(path: str, top: int = 3, **more: int) -> dict:", "only have plain parameters"),
        ("def count_words(path, top: int = 3) -> dict:", "path is not annotated; its type is string"),
        ("def count_words(path: int, top: int = 3) -> dict:", "annotated int, but its type is string"),
        ("def count_words(path: str | None, top: int = 3) -> dict:", "annotated str | None, but"),
        ("def count_words(path: str, top: int = 3):", "the result of count_words is not annotated"),
        ("def count_words(path: str, top: int = 5) -> dict:", "top must have the default 3"),
        ("def count_words(path: str, top: int) -> dict:", "top must have the default 3"),
        ("def count_words(path: str = 'a', top: int = 3) -> dict:", "path has a default, but"),
    ],
)
def test_the_tool_has_the_parameters_of_its_specification(sample: Any, definition: str, message: str) -> None:
    faults = check(f"{HEAD}@tool\n{definition}\n    {DOC}\n    return {{}}\n", sample.spec)
    assert any(message in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("@tool\n", "", "must be decorated with @tool"),
        ("@tool\n", "@tool()\n", "must be decorated with @tool"),
        ("from smolagents import tool", "from smolagents import tool as t", "tool is not imported"),
        ("        top: How many words to return.\n", "", "lacks a line 'top: description'"),
        ("    Args:\n", "    Arguments:\n", "has no section 'Args:'"),
    ],
)
def test_the_tool_is_decorated_and_documented(sample: Any, old: str, new: str, message: str) -> None:
    assert old in sample.code
    faults = check(sample.code.replace(old, new), sample.spec)
    assert any(message in fault for fault in faults), faults


def test_a_tool_without_a_workspace_touches_no_file(sample: Any) -> None:
    spec = sample.spec.model_copy(update={"workspace": "none"})
    message = "\n".join(check(sample.code + "\n\ndef _f():\n    return open('a')\n", spec))
    assert "pathlib.Path is imported: the specification says workspace 'none'" in message
    assert "open is used" in message


def test_all_faults_are_reported_in_the_order_of_lines(sample: Any) -> None:
    faults = check("import socket\nprint(1)\ndef count_words(path):\n    return eval(path)\n", sample.spec)
    assert len(faults) >= 7
    lines = [int(fault.split(":")[0].removeprefix("line ")) for fault in faults]
    assert lines == sorted(lines)


def test_what_is_not_python_is_one_fault(sample: Any) -> None:
    assert check("def f(:\n", sample.spec) == (
        "line 1: is not Python: invalid syntax; return one whole module",
    )
    assert "is not Python" in check("x = " + "(" * 5_000, sample.spec)[0]
    assert "is not Python" in check("x = '\ud800'", sample.spec)[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(noise=st.text(max_size=30), at=st.integers(0, 700), cut=st.integers(0, 700))
def test_no_text_makes_the_checker_fail(sample: Any, noise: str, at: int, cut: int) -> None:
    source = sample.code[:at] + noise + sample.code[at + cut :]
    assert all(fault.startswith("line ") for fault in check(source, sample.spec))


def test_every_function_is_listed_for_the_log(sample: Any) -> None:
    cell = "    def cell(self, at: int = 0) -> str:\n        '''One\n        cell.'''\n"
    more = f"\n\nclass Row:\n    'A row.'\n{cell}"
    assert functions(sample.code + more) == (
        FunctionSignature(
            name="words_of", signature="words_of(text: str) -> list[str]", doc="Split a text into its words."
        ),
        FunctionSignature(
            name="count_words",
            signature="count_words(path: str, top: int=3) -> dict[str, int]",
            doc="Count how often each word stands in a text file.",
        ),
        FunctionSignature(name="Row.cell", signature="Row.cell(self, at: int=0) -> str", doc="One cell."),
    )


def suite_of(*cases: tuple[Any, Any]) -> Suite:
    """Cases of a tool `f(text)`, as argument and expected value."""
    message = [
        {"title": str(at), "arguments": {"text": argument}, "expected": expected}
        for at, (argument, expected) in enumerate(cases)
    ]
    return Suite.model_validate({"cases": message})


def checked(
    body: str, *cases: tuple[Any, Any], head: str = "", purpose: str = "Do it.", **changes: Any
) -> str:
    """All faults of a tool `f(text)` with this body."""
    raw = {
        "name": "f",
        "purpose": purpose,
        "inputs": {"text": {"type": "any", "description": "What is given: strict or plain."}},
        "output_type": "any",
        "output_description": "What comes out.",
    }
    doc = '"""Do it.\n\n    Args:\n        text: what\n    """'
    source = (
        f"from typing import Any\n{HEAD}{head}\n\n@tool\ndef f(text: Any) -> Any:\n    {doc}\n    {body}\n"
    )
    return "\n".join(check(source, ToolSpec.model_validate(raw | changes), (), suite_of(*cases)))


BANANA, LONG = ("banana", 3), ("The quick brown fox, jumping", 7)
NUMBERS = ((4711, "a"), (8150, "b"), (17, "c"))


@pytest.mark.parametrize(
    ("body", "head"),
    [
        ("return 3 if text == 'banana' else 0", ""),
        ("return 3 if text.strip().lower() == 'banana' else 0", ""),
        ("return 3 if text in ('banana', 'other') else 0", ""),
        ("return 3 if 'banana' == text else 0", ""),
        ("match text:\n        case 'banana':\n            return 3\n    return 0", ""),
        ("return {'banana': 3, 'The quick brown fox, jumping': 7}.get(text, 0)", ""),
        ("return KNOWN.get(text, 0)", "KNOWN = {'The quick brown fox, jumping': 7, 'x': 1, 'y': 2, 'z': 3}"),
        ("return 7 if text.startswith('The quick brown fox, jumping') else 0", ""),
        ("return _of(text)", "def _of(word):\n    return 3 if word == 'banana' else 0"),
        ("return 'a' if text == 4711 else 'c'", ""),
        ("return {4711: 'a', 17: 'c'}[text]", "KEPT = ['banana', 'The quick brown fox, jumping']"),
    ],
)
def test_answer_made_for_a_case_is_reported(body: str, head: str) -> None:
    assert "is the input of a case; follow the specification" in checked(
        body, BANANA, LONG, *NUMBERS, head=head
    )


def test_comparison_with_a_fixed_hash_is_reported() -> None:
    message = checked(
        "return hashlib.md5(text.encode()).hexdigest() == '72b302bf297a228a75730123efef7c41'",
        head="import hashlib\n",
    )
    assert "compared with a fixed hash" in message


@pytest.mark.parametrize(
    ("body", "head", "cases"),
    [
        ("return text == 'strict'", "", [("strict", True), ("plain", False)]),  # the specification says it
        ("return text.encode('utf-8').decode('utf-8') == ', '", "", [("utf-8", 1), (", ", 2)]),
        (
            "return VALUES[text]",
            "VALUES = {1000: 'M', 900: 'CM', 500: 'D', 400: 'CD', 100: 'C'}",
            [(900, "CM"), (400, "CD")],
        ),
        ("return W[text]", "W = {w: n for n, w in enumerate('ten eleven'.split())}", [("eleven", 1)]),
        (
            "return WORDS[text]",
            "WORDS = {'nine': 9, 'eleven': 11, 'twelve': 12, 'thirteen': 13, 'fourteen': 14, 'fifteen': 15}",
            [("eleven", 11), ("twelve", 12)],
        ),
        ("return 0 <= text <= 3999", "", [(3999, "MMMCMXCIX"), (0, None)]),
        ("return text == 0 or text == 10 or text == 100", "", [(0, 1), (10, 2), (100, 3)]),
        ("return text == '' or text == []", "", [("", 1), ([], 2)]),
        ("return text['name'] == 'id'", "", [({"name": "id"}, True)]),
        ("return [row for row in text if row != 'a']", "", [(["a", "b"], ["b"])]),
    ],
)  # fmt: skip
def test_what_a_right_tool_may_compare(body: str, head: str, cases: list[tuple[Any, Any]]) -> None:
    assert checked(body, *cases, head=head) == ""


@pytest.mark.parametrize(
    ("body", "head"),
    [
        ("SEEN.append(text); return SEEN", "SEEN = []"),
        ("SEEN[text] = 1; return SEEN", "SEEN = {}"),
        ("del SEEN[text]; return SEEN", "SEEN = {}"),
        ("f.calls = 1; return f.calls", ""),
        ("Kept.last = text; return Kept.last", "class Kept:\n    'Kept.'\n    last = None"),
        ("return _add(text)", "def _add(x, seen=[]):\n    seen.append(x)\n    return seen"),
        ("return next(COUNT)", "COUNT = (n for n in (1, 2))"),
    ],
)
def test_state_between_calls_is_reported(body: str, head: str) -> None:
    assert "it is kept between calls" in checked(body, head=head)


@pytest.mark.parametrize(
    ("body", "head"),
    [
        ("seen = []; seen.append(text); return seen", "SEEN = []"),
        ("SEEN = []; SEEN.append(text); return SEEN", "SEEN = []"),
        ("return sorted(KNOWN)", "KNOWN = {'a': 1}"),
        ("return _Row(text).x", "class _Row:\n    def __init__(self, x):\n        self.x = [x]"),
        ("n = 0\n    def add(x):\n        nonlocal n\n        n += x\n    add(text); return n", ""),
    ],
)  # fmt: skip
def test_what_lives_within_a_call_is_no_state(body: str, head: str) -> None:
    assert checked(body, head=head) == ""


@pytest.mark.parametrize(
    ("body", "head", "word"),
    [
        ("return datetime.now().year", "from datetime import datetime\n", "today"),
        ("return datetime.date.today().year", "import datetime\n", "today"),
        ("return time.time()", "import time\n", "now"),
        ("return random.choice(text)", "import random\n", "at random"),
        ("return uuid.uuid4().hex", "import uuid\n", "a UUID"),
    ],
)
def test_clock_and_chance_are_for_tools_whose_specification_speaks_of_them(
    body: str, head: str, word: str
) -> None:
    assert "the same call must always give the same" in checked(body, head=head)
    assert checked(body, head=head, purpose=f"Say it, {word}.") == ""


@pytest.mark.parametrize(
    ("body", "head"),
    [
        ("return random.Random(7).choice(text)", "import random\n"),
        ("return datetime.fromisoformat(text).year", "from datetime import datetime\n"),
        ("return time.gmtime(text).tm_year", "import time\n"),
    ],
)
def test_what_only_looks_like_clock_or_chance_is_none(body: str, head: str) -> None:
    assert checked(body, head=head) == ""


@pytest.mark.parametrize(
    ("body", "head", "named"),
    [
        ("return __file__", "", "__file__"),
        ("return os.getpid()", "import os\n", "os.getpid"),
        ("return platform.node()", "import platform\n", "platform"),
        ("return traceback.extract_stack()", "import traceback\n", "traceback"),
        ("return (lambda: 0).gi_frame.f_back", "", ".f_back"),
        ("return open('/proc/self/cmdline').read()", "", "/proc/self/cmdline"),
        ("return open('../cases.json').read()", "", "../cases.json"),
    ],
)
def test_a_module_does_not_look_at_where_it_runs(body: str, head: str, named: str) -> None:
    assert named in checked(body, head=head, workspace="read")


@pytest.mark.parametrize(
    "body",
    [
        "open(text, 'w').close()",
        "open(text, mode='a').close()",
        "Path(text).write_text('')",
        "Path(text).open('w').close()",
        "os.remove(text)",
    ],
)
def test_a_tool_that_may_read_changes_no_file(body: str) -> None:
    head = "import os\nfrom pathlib import Path\n"
    assert "the specification says workspace 'read'" in checked(body, head=head, workspace="read")
    assert checked(body, head=head, workspace="write") == ""
    assert checked("return open(text, 'rb').read(), os.path.getsize(text)", head=head, workspace="read") == ""
