"""From a need to a proved tool, with a scripted model and the real sandbox."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolsmith import (
    BuildStep,
    CasesWritten,
    CodeFaulty,
    CodeWritten,
    Library,
    LibraryError,
    SpecWritten,
    ToolEdited,
    ToolRefused,
    TrialRan,
    adopt_edit,
    build_tool,
    try_tool,
)
from toolsmith.sandbox import Limits

WRONG = ("most_common(top)", "most_common()")


def test_a_tool_is_built_proved_and_taken_from_the_library_the_next_time(
    library: Library, sample: Any, model: Callable[..., Any]
) -> None:
    complete, steps = model(sample.spec_reply(), sample.cases_reply(), sample.code_reply()), list[BuildStep]()
    built = build_tool(sample.need, complete=complete, library=library, emit=steps.append, run="r1")
    assert [type(step) for step in steps] == [SpecWritten, CasesWritten, CodeWritten, TrialRan]
    assert built.trial.passed
    assert [result.title for result in built.trial.results] == [
        case.title for case in sample.suite.of(sample.spec)
    ]
    assert built.origin.run == "r1"
    assert build_tool(sample.need, complete=model(), library=library, emit=steps.append) == built
    assert len(steps) == 4


def test_a_wrong_implementation_is_caught_by_its_cases_and_mended_in_the_second_round(
    library: Library, sample: Any, model: Callable[..., Any]
) -> None:
    complete, steps = (
        model(sample.spec_reply(), sample.cases_reply(), sample.code_reply(*WRONG), sample.code_reply()),
        list[BuildStep](),
    )
    built = build_tool(sample.need, complete=complete, library=library, emit=steps.append)
    assert built.source == sample.code
    first, second = (step.report for step in steps if isinstance(step, TrialRan))
    assert first.failures == (
        "case 'the top': len(value) == 1 and value['b'] == 2 and files['sub/a.txt'] == 'b a b\\n' is not "
        'true; it returned {"b": 2, "a": 1}',
    )
    assert second.passed
    assert first.failures[0] in complete.prompts[3]
    assert "most_common()" in complete.prompts[3]


def test_a_module_that_breaks_rules_is_not_run_and_mended(
    library: Library, sample: Any, model: Callable[..., Any]
) -> None:
    loud = sample.code_reply("@tool\n", "print('hello')\n\n\n@tool\n")
    complete, steps = (
        model(sample.spec_reply(), sample.cases_reply(), loud, sample.code_reply()),
        list[BuildStep](),
    )
    build_tool(sample.need, complete=complete, library=library, emit=steps.append)
    kinds = [type(step) for step in steps]
    assert kinds == [SpecWritten, CasesWritten, CodeWritten, CodeFaulty, CodeWritten, TrialRan]
    assert "acts when the module is imported" in complete.prompts[3]


def test_a_tool_that_fails_three_times_is_refused_with_reasons_and_leaves_nothing(
    library: Library, sample: Any, model: Callable[..., Any]
) -> None:
    complete = model(
        sample.spec_reply(),
        sample.cases_reply(),
        sample.code_reply(*WRONG),
        "I am sorry.",
        sample.code_reply(*WRONG),
    )
    with pytest.raises(ToolRefused, match="The tool 'count_words' was not built: case 'the top'") as caught:
        build_tool(sample.need, complete=complete, library=library)
    assert caught.value.name == "count_words"
    assert len(caught.value.reasons) == 1
    assert complete.replies == []
    assert library.list() == ()


def test_a_specification_gets_two_repairs(library: Library, sample: Any, model: Callable[..., Any]) -> None:
    cut = sample.spec_reply()[:300]
    complete = model("Gladly!", cut, sample.spec_reply(), sample.cases_reply(), sample.code_reply())
    assert build_tool(sample.need, complete=complete, library=library).name == "count_words"
    assert "no JSON object" in complete.prompts[1]
    assert "seems cut" in complete.prompts[2]
    with pytest.raises(ToolRefused, match="specification: The reply has no JSON object"):
        build_tool(
            sample.need.model_copy(update={"name": "other", "purpose": "Draw it."}),
            complete=model("prose", "prose", "prose"),
            library=library,
        )


def test_what_the_model_raises_ends_the_build(library: Library, sample: Any) -> None:
    def out_of_money(prompt: str) -> str:
        raise RuntimeError("no money")

    with pytest.raises(RuntimeError, match="no money"):
        build_tool(sample.need, complete=out_of_money, library=library)
    with library.building("count_words", patience_s=0.1):
        pass


BUILD = """
import json, os, sys, time
from pathlib import Path
from toolsmith import Library, Need, build_tool

root, replies, need = json.load(sys.stdin)
print("ready", flush=True)
while not Path(root, "go").exists():
    time.sleep(0.005)

def complete(prompt):
    with open(Path(root, "calls"), "a") as calls:
        calls.write("call\\n")
    time.sleep(0.2)
    return replies.pop(0)

tool = build_tool(Need.model_validate(need), complete=complete, library=Library(Path(root, "tools")))
print(tool.version, tool.sha256)
"""


def test_two_processes_that_need_the_same_tool_build_it_once(sample: Any, tmp_path: Path) -> None:
    given = json.dumps(
        [
            str(tmp_path),
            [sample.spec_reply(), sample.cases_reply(), sample.code_reply()],
            sample.need.model_dump(),
        ]
    )
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    builders = [subprocess.Popen([sys.executable, "-c", BUILD], **pipes) for _ in range(2)]
    for builder in builders:
        assert builder.stdin
        assert builder.stdout
        builder.stdin.write(given)
        builder.stdin.close()
        assert builder.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    told = []
    for builder in builders:
        assert builder.stdout
        told.append(builder.stdout.read())
        builder.stdout.close()
        assert builder.wait() == 0
    assert told[0] == told[1]
    assert told[0].startswith("1 ")
    assert (tmp_path / "calls").read_text().count("call") == 3


def test_an_edited_tool_is_used_again_once_its_cases_pass(
    library: Library, sample: Any, model: Callable[..., Any]
) -> None:
    build_tool(
        sample.need,
        complete=model(sample.spec_reply(), sample.cases_reply(), sample.code_reply()),
        library=library,
    )
    file = library.root / "count_words" / "v1" / "tool.py"
    with pytest.raises(LibraryError, match="was not edited"):
        adopt_edit("count_words", library=library)
    file.write_text(sample.code.replace(*WRONG))
    with pytest.raises(ToolEdited):
        build_tool(sample.need, complete=model(), library=library)
    with pytest.raises(ToolRefused, match="case 'the top'"):
        adopt_edit("count_words", library=library)
    file.write_text(sample.code.replace("text.split()", "text.lower().split()"))
    adopted = adopt_edit("count_words", library=library)
    assert (adopted.version, adopted.origin.edit_of) == (2, 1)
    assert build_tool(sample.need, complete=model(), library=library) == adopted


def trial_of(sample: Any, body: str, head: str = "", **changes: Any) -> dict[str, str]:
    """Title → detail of the failed cases of a tool with this body, tried without asking the checker."""
    own = {"cases": changes.pop("cases", [*sample.raw["examples"], *sample.raw_suite["cases"]])}
    spec = type(sample.spec).model_validate(sample.raw | {"examples": []} | changes)
    suite = type(sample.suite).model_validate(own)
    source = (
        f"from smolagents import tool\n{head}\n@tool\ndef count_words(path: str, top: int = 3):\n    {body}\n"
    )
    report = try_tool(spec, suite, source, limits=Limits(wall_s=1))
    assert [result.title for result in report.results] == [case.title for case in suite.cases]
    return {result.title: result.detail for result in report.results if not result.passed}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return {'b': 2, 'a': 2}", 'value["a"]: expected 1, got 2'),
        ("raise ValueError('no\\nway')", 'expected {"b": 2, "a": 1}, but it raised ValueError: no'),
        ("return {'b', 'a'}", "value is a set, which is not a JSON value; return plain JSON values"),
        ("return open('/etc/shadow').read()", 'expected {"b": 2, "a": 1}, but it raised FileNotFoundError'),
        ("import os; os._exit(3)", 'expected {"b": 2, "a": 1}, but it ended its own process'),
        ("import os; return os.path.abspath('.')", 'value: expected {"b": 2, "a": 1}, got "/workspace"'),
        ("open('a.txt', 'w')", 'expected {"b": 2, "a": 1}, but it raised OSError: [Errno 30] Read-only'),
    ],
)
def test_a_failed_case_says_what_was_expected_and_what_came(sample: Any, body: str, told: str) -> None:
    detail = trial_of(sample, body)["counts"]
    assert detail.startswith(told)
    assert "/tmp" not in detail
    assert "\n" not in detail


def test_a_tool_without_end_fails_its_cases(sample: Any) -> None:
    cases = sample.raw["examples"] + sample.raw_suite["cases"][1:]
    failed = trial_of(
        sample, "\n    while path == 'a.txt': pass\n    raise FileNotFoundError(path)", cases=cases
    )
    assert list(failed) == ["counts", "an empty file"]
    assert "but it took longer than 1 s" in failed["counts"]


def test_the_declared_error_or_a_kind_of_it_has_to_be_raised(sample: Any) -> None:
    errors = [{"type": "OSError", "when": "there is no file"}, {"type": "ValueError", "when": "never"}]
    cases = [
        {"title": "kind", "arguments": {"path": "b.txt"}, "error": "OSError"},
        {"title": "other", "arguments": {"path": "b.txt"}, "error": "ValueError"},
        {"title": "returns", "arguments": {"path": "x"}, "error": "OSError"},
    ]
    failed = trial_of(sample, "return 1 if path == 'x' else open(path)", cases=cases, errors=errors)
    assert failed == {
        "other": "expected ValueError to be raised, but it raised FileNotFoundError: [Errno 2] "
        "No such file or directory: 'b.txt'",
        "returns": "expected OSError to be raised, but it returned 1",
    }


def test_files_are_compared_after_the_call_and_links_are_not_followed(sample: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    link = f"os.symlink({str(tmp_path / 'secret')!r}, 'link.txt')"
    body = f"import os; os.remove('old.txt'); open('new.txt', 'w').write('new'); {link}"
    after = [
        ("right", {"old.txt": None, "new.txt": "new"}),
        ("wrong", {"new.txt": "old", "none.txt": "x"}),
        ("link", {"link.txt": "secret"}),
    ]
    cases = [
        {
            "title": title,
            "files": {"old.txt": "old"},
            "arguments": {"path": "a"},
            "expected": None,
            "files_after": files,
            "edge": True,
        }
        for title, files in after
    ]
    failed = trial_of(sample, body, cases=cases, workspace="write", output_type="any")
    assert failed == {
        "wrong": 'files_after[\'new.txt\']: expected "old", got "new"; '
        "files_after['none.txt']: does not exist",
        "link": "files_after['link.txt']: does not exist",
    }


def test_odd_things_that_a_tool_leaves_behind_do_not_hurt_the_host(sample: Any) -> None:
    body = (
        "import os; open(b'\\xff', 'w'); open('big', 'wb').truncate(2_000_000)\n"
        "    for _ in range(1500): os.mkdir('d'); os.chdir('d')\n"
        "    return '\\ud800'"
    )
    cases = [
        {
            "title": title,
            "arguments": {"path": "a"},
            "check": "value == '?' and 'big' not in files",
            "edge": True,
        }
        for title in ("1", "2", "3")
    ]
    failed = trial_of(sample, body, cases=cases, workspace="write", output_type="any")
    assert failed == {}, "half a surrogate pair leaves the sandbox as a question mark"


def test_no_case_profits_from_what_an_earlier_one_left(sample: Any) -> None:
    body = "SEEN.append(1); open('mark', 'a').write('x'); return [len(SEEN), len(open('mark').read())]"
    cases = [
        {"title": title, "arguments": {"path": "a"}, "expected": [1, 1], "edge": True}
        for title in ("1", "2", "3")
    ]
    assert not trial_of(sample, body, "SEEN = []", cases=cases, workspace="write", output_type="array")


def test_code_that_acts_when_it_is_imported_reaches_nothing_of_the_host(
    sample: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "key-of-the-host")
    (tmp_path / "secret").write_text("secret")
    head = f"""
import os, pathlib, socket
FOUND = [os.environ.get("SOME_API_KEY")]
for attempt in (
    lambda: pathlib.Path({str(tmp_path / "secret")!r}).read_text(),
    lambda: pathlib.Path({str(tmp_path / "mark")!r}).write_text("was here"),
    lambda: socket.create_connection(("127.0.0.1", 1), 1),
):
    try:
        FOUND.append(attempt() and "reached")
    except OSError as error:
        FOUND.append(None)
"""
    cases = [
        {"title": title, "arguments": {"path": "a"}, "expected": [None] * 4, "edge": True}
        for title in ("1", "2", "3")
    ]
    assert not trial_of(sample, "return FOUND", head, cases=cases, output_type="array")
    assert not (tmp_path / "mark").exists()


def test_a_report_is_the_same_in_every_run(sample: Any) -> None:
    first, second = (trial_of(sample, "return {'b': object(), 'at': open(path).name}") for _ in range(2))
    assert first == second
    assert len(first) == 3
