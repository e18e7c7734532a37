"""From a need to a proved tool, with a scripted model and the real sandbox."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolsmith.build import (
    BuildStep,
    CasesWritten,
    CodeFaulty,
    CodeWritten,
    SpecWritten,
    TrialRan,
    adopt_edit,
    build_tool,
    prove_again,
)
from toolsmith.built import Challenged, MutantsTried
from toolsmith.errors import LibraryError, ToolEdited, ToolNotBuilt
from toolsmith.library import Library
from toolsmith.library.records import seal
from toolsmith.proof.trial import sandboxes_for, try_tool
from toolsmith.sandbox import Limits
from toolsmith.spec import Need

WRONG = ("most_common(top)", "most_common()")


def test_a_tool_is_built_proved_and_taken_from_the_library_the_next_time(
    library: Library, sample: Any, model: Callable[..., Any]
) -> None:
    complete, steps = model(sample.spec_reply(), sample.cases_reply(), sample.code_reply()), list[BuildStep]()
    built = build_tool(sample.need, complete=complete, library=library, emit=steps.append, run="r1")
    assert [type(step) for step in steps] == [SpecWritten, CasesWritten, CodeWritten, TrialRan, MutantsTried]
    assert built.trial.passed
    assert built.suite == sample.suite
    assert all(mutant.caught_by for mutant in built.trial.mutants)
    total = len(built.trial.mutants)
    assert f"noticed: {total} of {total} faults that were planted into the code" in built.trial.lines
    assert [result.title for result in built.trial.results] == [
        case.title for case in sample.suite.of(sample.spec)
    ]
    assert built.origin.run == "r1"
    assert build_tool(sample.need, complete=model(), library=library, emit=steps.append) == built
    assert len(steps) == 5


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
    assert kinds == [SpecWritten, CasesWritten, CodeWritten, CodeFaulty, CodeWritten, TrialRan, MutantsTried]
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
    with pytest.raises(ToolNotBuilt, match="The tool 'count_words' was not built: case 'the top'") as caught:
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
    with pytest.raises(ToolNotBuilt, match=r"specification: .*no JSON object"):
        build_tool(
            sample.need.model_copy(update={"name": "other", "purpose": "Draw it."}),
            complete=model("prose", "prose", "prose"),
            library=library,
        )


def test_what_the_model_raises_ends_the_build(library: Library, sample: Any) -> None:
    def out_of_money(prompt: str, _schema: object = None) -> str:
        raise RuntimeError("no money")

    with pytest.raises(RuntimeError, match="no money"):
        build_tool(sample.need, complete=out_of_money, library=library)
    with library.build_lock("count_words", patience_s=0.1):
        pass


BUILD = """
import json, os, sys, time
from pathlib import Path
from toolsmith.build import build_tool
from toolsmith.library import Library
from toolsmith.spec import Need

root, replies, need = json.load(sys.stdin)
print("ready", flush=True)
while not Path(root, "go").exists():
    time.sleep(0.005)

def complete(prompt, schema=None):
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
    message = []
    for builder in builders:
        assert builder.stdout
        message.append(builder.stdout.read())
        builder.stdout.close()
        assert builder.wait() == 0
    assert message[0] == message[1]
    assert message[0].startswith("1 ")
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
    with pytest.raises(ToolNotBuilt, match="case 'the top'"):
        adopt_edit("count_words", library=library)
    file.write_text(sample.code.replace("text.split()", "text.lower().split()"))
    adopted = adopt_edit("count_words", library=library)
    assert (adopted.version, adopted.origin.edit_of) == (2, 1)
    assert build_tool(sample.need, complete=model(), library=library) == adopted


def trial_of(sample: Any, body: str, head: str = "", *, wall_s: float = 10, **changes: Any) -> dict[str, str]:
    """Title → detail of the failed cases of a tool with this body, tried without asking the checker."""
    own = {"cases": changes.pop("cases", [*sample.raw["examples"], *sample.raw_suite["cases"]])}
    spec = type(sample.spec).model_validate(sample.raw | {"examples": []} | changes)
    suite = type(sample.suite).model_validate(own)
    source = (
        f"from smolagents import tool\n{head}\n@tool\ndef count_words(path: str, top: int = 3):\n    {body}\n"
    )
    report = try_tool(spec, suite, source, sandboxes_for(spec, limits=Limits(wall_s=wall_s)))
    assert [result.title for result in report.results] == [case.title for case in suite.cases]
    return {result.title: result.detail for result in report.results if not result.passed}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return {'b': 2, 'a': 2}", r'value\["a"\]: expected 1, got 2'),
        ("raise ValueError('no\\nway')", 'expected {"b": 2, "a": 1}, but it raised ValueError: no'),
        ("return {'b', 'a'}", "value is a set, which is not a JSON value; return plain JSON values"),
        ("return open('/etc/shadow').read()", "expected .*, but it raised (FileNotFound|Permission)Error"),
        ("import os; os._exit(3)", 'expected {"b": 2, "a": 1}, but it ended its own process'),
        ("import os; return os.path.abspath('.')", 'value: expected {"b": 2, "a": 1}, got "/workspace"'),
        ("open('a.txt', 'w')", "expected .*, but it raised (OSError|PermissionError): .*a.txt"),
    ],
)
def test_a_failed_case_says_what_was_expected_and_what_came(sample: Any, body: str, message: str) -> None:
    detail = trial_of(sample, body)["counts"]
    assert re.match(message, detail)
    assert "/tmp" not in detail
    assert "\n" not in detail


def test_a_tool_without_end_fails_its_cases(sample: Any) -> None:
    cases = sample.raw["examples"] + sample.raw_suite["cases"][1:]
    failed = trial_of(
        sample, "\n    while path == 'a.txt': pass\n    raise FileNotFoundError(path)", cases=cases, wall_s=1
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


def vowels(
    *, cases: Any = (), properties: Any = (), code: str = "", check: str = "value == 0"
) -> tuple[str, str, str]:
    """Replies for a small tool: its specification, its cases and its code."""
    spec = {
        "name": "count_vowels",
        "purpose": "Count the vowels of a text.",
        "inputs": {"text": {"type": "string", "description": "The text."}},
        "output_type": "integer",
        "output_description": "The number of a, e, i, o, u in either case.",
        "errors": [{"type": "ValueError", "when": "the text is empty"}],
        "examples": [{"title": "an example", "arguments": {"text": "sky"}, "check": check}],
    }
    body = f"```python\n{VOWELS.replace('BODY', code or RIGHT)}```"
    suite = {"cases": [*cases, EMPTY], "properties": [*properties]}
    return f"```json\n{json.dumps(spec)}\n```", f"```json\n{json.dumps(suite)}\n```", body


VOWELS = """from smolagents import tool


@tool
def count_vowels(text: str) -> int:
    \"\"\"Count the vowels of a text.

    Args:
        text: The text.
    \"\"\"
    if not text:
        raise ValueError("the text is empty")
BODY
"""
RIGHT = '    return sum(sign in "aeiou" for sign in text.lower())'
SLOW = """    count = 0
    for sign in text.lower():
        if sign in "aeiou":
            count += 1
    return count"""
EMPTY = {"title": "nothing", "arguments": {"text": ""}, "error": "ValueError"}
TELLING = [
    {"title": "a word", "arguments": {"text": "banana"}, "expected": 3},
    {"title": "capitals", "arguments": {"text": "IO"}, "expected": 2},
]
LAZY = [
    {"title": "one", "arguments": {"text": "xyz"}, "check": "value >= 0"},
    {"title": "two", "arguments": {"text": "rhythm"}, "check": "value >= 0"},
]
NEED = Need(name="count_vowels", purpose="Count vowels.")
WRONG_CASE = {"title": "a wrong one", "arguments": {"text": "queue"}, "expected": 5}


def challenge(code: str, title: str = "a wrong one") -> str:
    said = {"challenge": {"case": title, "reason": "q is no vowel by the specification"}}
    return f"{code}\n```json\n{json.dumps(said)}\n```"


def ruling(verdict: str, **more: Any) -> str:
    return f"```json\n{json.dumps({'verdict': verdict, 'reason': 'of q nothing is said', **more})}\n```"


@pytest.mark.parametrize("verdict", ["change", "withdraw"])
def test_a_case_that_demands_what_the_specification_does_not_say_can_be_challenged(
    library: Library, model: Callable[..., Any], verdict: str
) -> None:
    spec, cases, code = vowels(cases=[*TELLING, WRONG_CASE])
    more = {"case": WRONG_CASE | {"expected": 4}} if verdict == "change" else {}
    steps = list[BuildStep]()
    complete = model(spec, cases, code, challenge(code), ruling(verdict, **more))
    built = build_tool(NEED, complete=complete, library=library, emit=steps.append)
    (kept,) = built.trial.challenges
    assert (kept.title, kept.verdict, kept.ruling) == ("a wrong one", verdict, "of q nothing is said")
    assert [step.challenge for step in steps if isinstance(step, Challenged)] == [kept]
    assert ("a wrong one" in built.suite.titles()) == (verdict == "change")
    assert library.get("count_vowels") == built
    prompt = complete.prompts[-1]
    assert "\nq is no vowel by the specification\n</untrusted>" in prompt
    assert '"expected": 5' in prompt
    assert "def count_vowels" not in prompt


def test_challenge_is_heard_once_and_a_rejection_is_reported(
    library: Library, model: Callable[..., Any]
) -> None:
    spec, cases, code = vowels(cases=[*TELLING, WRONG_CASE])
    complete = model(spec, cases, challenge(code), challenge(code), ruling("keep"), challenge(code))
    with pytest.raises(ToolNotBuilt, match="case 'a wrong one': value: expected 5, got 4"):
        build_tool(NEED, complete=complete, library=library)
    assert '`{"challenge"' not in complete.prompts[2], "a case that no code failed cannot be challenged"
    assert '`{"challenge"' in complete.prompts[3]
    assert "the challenge of 'a wrong one' was rejected: of q nothing is said" in complete.prompts[5]
    assert '`{"challenge"' not in complete.prompts[5]
    assert complete.replies == []


def test_cases_that_notice_too_few_planted_faults_are_added_to(
    library: Library, model: Callable[..., Any]
) -> None:
    spec, cases, code = vowels(cases=LAZY, code=SLOW, check="value >= 0")
    more = f"```json\n{json.dumps({'cases': TELLING})}\n```"
    complete, steps = model(spec, cases, code, more), list[BuildStep]()
    built = build_tool(NEED, complete=complete, library=library, emit=steps.append)
    assert built.suite.titles() == ("one", "two", "nothing", "a word", "capitals")
    first, second = (step.mutants for step in steps if isinstance(step, MutantsTried))
    assert 2 * sum(bool(mutant.caught_by) for mutant in first) < len(first)
    assert 2 * sum(bool(mutant.caught_by) for mutant in second) >= len(second)
    asked = complete.prompts[-1]
    assert "- upper and lower case are not treated as they should be\n" in asked
    assert "def count_vowels" not in asked
    assert ".lower()" not in asked


def test_a_tool_whose_cases_stay_too_weak_is_refused_with_what_they_do_not_notice(
    library: Library, model: Callable[..., Any]
) -> None:
    spec, cases, code = vowels(cases=LAZY, code=SLOW, check="value >= 0")
    again = [
        f"```json\n{json.dumps({'cases': [LAZY[0] | {'title': title}]})}\n```" for title in ("three", "four")
    ]
    complete = model(spec, cases, code, *again)
    with pytest.raises(ToolNotBuilt, match=r"its cases prove too little: of \d+ small faults") as caught:
        build_tool(NEED, complete=complete, library=library)
    assert "unnoticed: upper and lower case are not treated as they should be" in caught.value.reasons
    assert complete.replies == []
    assert library.list() == ()


def test_properties_are_part_of_the_proof(library: Library, model: Callable[..., Any]) -> None:
    held = {
        "title": "never more than there are signs",
        "kind": "always",
        "inputs": {"text": {"type": "string", "pattern": "[a-d]{1,5}"}},
        "check": "value <= len(arguments['text'])",
    }
    hasty = (
        '    return text.lower().count("a") * 3 if "a" in text else sum(s in "eiou" for s in text.lower())'
    )
    cases = [{"title": "a word", "arguments": {"text": "brand"}, "check": "value > 0"}, *TELLING[1:]]
    spec, suite, wrong = vowels(cases=cases, properties=[held], code=hasty)
    right = vowels()[2]
    complete = model(spec, suite, wrong, right)
    built = build_tool(NEED, complete=complete, library=library)
    message = (
        "property 'never more than there are signs': for text=\"a\": value <= len(arguments['text']) is not"
    )
    assert message in complete.prompts[3]
    assert [one.passed for one in built.trial.properties] == [True]
    assert library.get("count_vowels") == built


def test_a_tool_of_before_there_were_examples_is_read_and_proved_again(
    library: Library, sample: Any, model: Callable[..., Any]
) -> None:
    build_tool(
        sample.need,
        complete=model(sample.spec_reply(), sample.cases_reply(), sample.code_reply()),
        library=library,
    )
    file = library.root / "count_words" / "v1" / "tool.json"
    record = json.loads(file.read_text())
    cases = [*record["spec"].pop("examples"), *record.pop("cases")]
    old = {key: record[key] for key in ("name", "version", "created", "sha256", "origin")}
    results = [
        {k: r[k] for k in ("title", "passed", "detail", "seconds")} for r in record["trial"]["results"]
    ]
    old |= {"format": 1, "trial": {"passed": True, "results": results}}
    old |= {"spec": record["spec"] | {"cases": cases}}
    file.write_text(json.dumps(old | {"seal": seal(old)}))
    tool = library.get("count_words")
    assert tool is not None
    assert tool.spec.examples == ()
    assert [case.title for case in tool.suite.cases] == [case["title"] for case in cases]
    faults, report = prove_again(tool)
    assert not faults
    assert report is not None
    assert report.passed
