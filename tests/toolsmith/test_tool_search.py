"""The library is searched before a tool is built: what is found, what is decided, and what comes of it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from toolsmith.build import BuildStep, NotExtended, Searched, build_tool
from toolsmith.built import BuiltTool, Origin, TrialReport
from toolsmith.errors import ReplyFaulty, ToolNotBuilt
from toolsmith.library import Library
from toolsmith.proof.cases import Suite
from toolsmith.reuse import duplicate_of, extension_faults, taken_for, whole_proof
from toolsmith.search import FLOOR, candidates, find, planned_faults, read_decision
from toolsmith.spec import Need, ToolSpec

NEEDS = Path(__file__).parent / "needs"


def tool_of(spec: dict[str, Any] | ToolSpec, asked: str = "-", source: str = "") -> BuiltTool:
    """A tool as the library has it, whatever its code is."""
    spec = ToolSpec.model_validate(spec)
    return BuiltTool(
        name=spec.name,
        version=1,
        spec=spec,
        source=source,
        sha256="",
        functions=(),
        trial=TrialReport(passed=True, results=()),
        origin=Origin(need=Need(name=spec.name, purpose=asked)),
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )


def said(name: str, purpose: str, **fields: Any) -> dict[str, Any]:
    text = {"type": "string", "description": "The text."}
    base = {"name": name, "purpose": purpose, "inputs": {"text": text}, "output_type": "integer"}
    return base | {"output_description": "A number."} | fields


# --- finding


SERVED = {
    "column_stats": ["csv_summary: Compute mean, median, min and max of a numeric column in a CSV file"],
    "compare_lists": [
        "list_difference: Which items were added to or removed from a list compared to another",
        "diff_lists: Compare two lists and report additions and removals",
    ],
    "convert_units": ["to_metric: Convert imperial measurements to metric units"],
    "diff_json": ["json_diff: Show what changed between two JSON documents"],
    "free_slots": [
        "find_free_time: Given meetings of a day, find the gaps",
        "open_hours: Finds free time slots between meetings",
    ],
    "markdown_outline": ["table_of_contents: Extract the headings of a Markdown document"],
    "normalise_url": ["clean_urls: Normalize web addresses to one canonical form"],
    "order_tasks": ["dependency_order: Sorts items by what they depend on"],
    "parse_duration": [
        'duration_to_seconds: Convert a duration such as "2h 15m" to seconds',
        "seconds_of: Parses human-readable durations into a number of seconds",
    ],
    "read_ini": ["parse_config: Parses a configuration file in INI format into a dictionary"],
    "roman_to_integer": ["from_roman: Gives the number for a roman numeral"],
    "find_in_files": ["find_text: Search for a string in files and return path and line number"],
    "shortest_route": ["dijkstra: Shortest path between two nodes of a weighted graph"],
    "sort_versions": ["newest_version: Orders version strings by semver precedence"],
    "split_amount": ["share_costs: Split a sum of money by shares without losing a cent"],
    "summarise_access_log": ["log_report: Count requests and status codes in a web server access log"],
}
"""Needs in other words than those of the tool that serves them."""
UNSERVED = [
    "tax_due: Work out income tax for a salary by brackets",
    "thumbnail: Make a smaller copy of an image",
    "is_prime: Whether a number is prime",
    "weather_forecast: Gets the weather forecast for a city",
    "caesar_cipher: Encrypt a text by shifting letters",
    "merge_pdfs: Join several PDF files into one",
    "bmi: Compute the body mass index from height and weight",
    "html_to_text: Strip the tags from an HTML page",
    "tic_tac_toe: Who has won a board of tic-tac-toe",
    "anagrams: Group words that are anagrams of each other",
    "currency_rates: Fetch exchange rates from the central bank",
    "translate_morse: Translate Morse code into letters",
]


def need_of(text: str) -> Need:
    name, _, purpose = text.partition(": ")
    return Need(name=name, purpose=purpose)


@pytest.fixture(scope="module")
def shelf() -> list[BuiltTool]:
    """Thirty tools of as many kinds."""
    return [tool_of(json.loads(file.read_text())) for file in sorted(NEEDS.glob("*/spec.json"))]


def test_a_need_in_other_words_finds_the_tool_that_serves_it(shelf: list[BuiltTool]) -> None:
    ranks = {}
    for name, texts in SERVED.items():
        for text in texts:
            found = [one.tool.name for one in candidates(need_of(text), shelf)]
            ranks[text] = found.index(name) if name in found else None
    lost = [text for text, rank in ranks.items() if rank is None]
    assert len(lost) <= 1, lost
    assert sum(rank == 0 for rank in ranks.values()) >= len(ranks) - 3, ranks


def test_what_no_tool_serves_rarely_brings_a_candidate(shelf: list[BuiltTool]) -> None:
    found = {text: [one.tool.name for one in candidates(need_of(text), shelf)] for text in UNSERVED}
    assert sum(map(bool, found.values())) <= 3, found


def test_words_that_most_tools_have_make_no_candidate() -> None:
    tools = [tool_of(said("sort_lines", "Sort the lines of a text file and return them."))]
    assert candidates(need_of("read_file: Return the lines of a text file"), tools) == ()


def test_names_of_a_memory_are_added_and_those_of_no_tool_passed_over() -> None:
    tools = [tool_of(said("count_vowels", "Count the vowels of a text.")), tool_of(said("sing", "Sing it."))]
    found = candidates(
        need_of("vowel_count: How many vowels a text has"), tools, ["sing", "gone", "count_vowels"]
    )
    assert [(one.tool.name, one.score >= FLOOR) for one in found] == [("count_vowels", True), ("sing", False)]


def test_the_words_of_the_need_that_a_tool_was_built_for_count() -> None:
    tools = [
        tool_of(said("aeiou", "How often a, e, i, o and u stand in it."), asked="Count vowels in a word.")
    ]
    assert candidates(need_of("vowels: Count the vowels"), tools)


# --- deciding


def never_called(prompt: str, _schema: object = None) -> str:
    raise AssertionError(f"no model was to be asked: {prompt}")


COUNTER = tool_of(said("count_vowels", "Count the vowels of a text."))


def test_without_candidates_no_model_is_asked() -> None:
    need = need_of("thumbnail: Make a smaller copy of an image")
    assert find(need, [], never_called).decision.kind == "new"
    assert find(need, [COUNTER], never_called).decision.kind == "new"


def test_the_same_purpose_and_a_call_that_fits_need_no_model() -> None:
    need = Need(name="vowels", purpose="Count the  vowels of a text", calls=({"text": "$read.value"},))
    found = find(need, [COUNTER], never_called)
    assert (found.decision.kind, found.tool) == ("use", COUNTER)
    other = need.model_copy(update={"calls": ({"word": "banana"},)})
    asked: list[str] = []

    def complete(prompt: str, _schema: object = None) -> str:
        asked.append(prompt)
        return '{"new": "other inputs"}'

    assert find(other, [COUNTER], complete).decision.kind == "new"
    assert "The planned call does not fit it: arguments.word" in asked[0]


def test_the_model_is_shown_the_need_and_the_contracts_of_the_candidates() -> None:
    prompts: list[str] = []

    def complete(prompt: str, _schema: object = None) -> str:
        prompts.append(prompt)
        return '```json\n{"use": "Count-Vowels", "why": "the same"}\n```'

    need = Need(
        name="vowels_in", purpose="How many vowels a text has", context="For a poem.\nIgnore all this."
    )
    found = find(need, [COUNTER], complete)
    assert (found.decision.kind, found.decision.tool, found.decision.reason) == (
        "use",
        "count_vowels",
        "the same",
    )
    (prompt,) = prompts
    for text in ("`vowels_in`", "How many vowels a text has", "\nIgnore all this.", '"name": "count_vowels"'):
        assert text in prompt


def test_a_tool_is_not_used_where_one_of_the_planned_calls_does_not_fit_it() -> None:
    need = Need(name="vowels_in", purpose="How many vowels a text has", calls=({"text": "a"}, {"text": 3}))
    decision = find(need, [COUNTER], lambda _: '{"use": "count_vowels"}').decision
    assert decision.kind == "new"
    assert "3 is integer, but the input is string" in decision.reason


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ('{"use": "sing"}', "'sing' is no candidate; there are count_vowels"),
        ('{"use": "count_vowels", "new": "no"}', "exactly one"),
        ('{"use": ["count_vowels"]}', "exactly one"),
        ('{"extend": "count_vowels"}', "`what` has to say"),
        ("{}", "exactly one"),
        ("I would use it.", "no JSON object"),
    ],
)
def test_a_reply_that_decides_nothing_counts_as_new(reply: str, message: str) -> None:
    with pytest.raises(ReplyFaulty, match=message):
        read_decision(reply, ["count_vowels"])
    found = find(need_of("vowels_in: How many vowels a text has"), [COUNTER], lambda _: reply)
    assert (found.decision.kind, found.tool) == ("new", None)
    assert "could not be used" in found.decision.reason


def test_a_planned_call_fits_as_far_as_its_values_are_known() -> None:
    spec = COUNTER.spec
    assert planned_faults(spec, {"text": "$read.value"}) == ()
    assert planned_faults(spec, {"text": 3}) != ()
    assert planned_faults(spec, {}) == ("arguments.text: is lacking, and the input has no default",)
    assert planned_faults(spec, {"text": "a", "word": "b"}) != ()


# --- extending


def extended(**changes: Any) -> ToolSpec:
    top = {"type": "integer", "description": "How many.", "default": 3}
    base = said(
        "count_words", "Count.", inputs={"path": {"type": "string", "description": "A file."}, "top": top}
    )
    base |= {"errors": [{"type": "OSError", "when": "never"}], "workspace": "read"}
    return ToolSpec.model_validate(base | changes)


INPUTS = extended().model_dump(mode="json")["inputs"]
FLAG = {"type": "boolean", "description": "Fold case.", "default": False}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, []),
        ({"inputs": INPUTS | {"fold": FLAG}, "purpose": "More."}, []),
        ({"inputs": {"fold": FLAG} | INPUTS}, ["inputs: path, top have to stay"]),
        ({"inputs": {"path": INPUTS["path"]}}, ["inputs: path, top have to stay"]),
        ({"inputs": INPUTS | {"top": INPUTS["top"] | {"default": 5}}}, ["inputs.top.default: was 3"]),
        ({"inputs": INPUTS | {"path": INPUTS["path"] | {"type": "array"}}}, ["inputs.path.type: was string"]),
        ({"inputs": INPUTS | {"path": INPUTS["path"] | {"type": "any"}}}, []),
        (
            {"inputs": INPUTS | {"fold": FLAG | {"default": None}}},
            ["inputs.fold: is new, so it needs a default"],
        ),
        ({"output_type": "object"}, ["output_type: was integer"]),
        ({"errors": []}, ["errors: OSError was declared"]),
        ({"workspace": "write"}, ["workspace: has to stay"]),
        ({"network": ["a.example"]}, ["network: has to stay"]),
    ],
)
def test_an_extension_must_not_break_who_uses_the_tool(changes: dict[str, Any], message: list[str]) -> None:
    faults = list(extension_faults(extended(), extended(**changes)))
    assert [fault.startswith(start) for fault, start in zip(faults, message, strict=True)] == [True] * len(
        message
    )


def test_all_old_cases_are_part_of_the_new_proof(sample: Any) -> None:
    old = tool_of(sample.spec).model_copy(update={"suite": sample.suite})
    new = Suite(cases=sample.suite.cases[:1])
    whole = whole_proof(old, sample.spec, new)
    assert len(whole.cases) == 1 + len(sample.suite.of(sample.spec))
    titles = [case.title for case in whole.of(sample.spec)]
    assert len(set(titles)) == len(titles)
    assert f"{new.cases[0].title} (as before)" in titles


def kept(library: Library, sample: Any, model: Callable[..., Any]) -> BuiltTool:
    complete = model(sample.spec_reply(), sample.cases_reply(), sample.code_reply())
    return build_tool(sample.need, complete=complete, library=library)


FREQUENCIES = Need(name="word_frequencies", purpose="How often does each word stand in a file?")
USE = '{"use": "count_words", "why": "the same job"}'
EXTEND = '{"extend": "count_words", "what": "leave out short words"}'


def test_a_tool_of_another_name_is_used_where_it_serves(
    library: Library, sample: Any, model: Callable[..., Any]
) -> None:
    tool, steps = kept(library, sample, model), list[BuildStep]()
    assert build_tool(FREQUENCIES, complete=model(USE), library=library, emit=steps.append) == tool
    (step,) = steps
    assert isinstance(step, Searched)
    assert (step.name, step.decision.reason) == ("word_frequencies", "the same job")


def wider(sample: Any, **changes: Any) -> str:
    least = {"type": "integer", "description": "Leave out words that are shorter.", "default": 0}
    return str(sample.spec_reply(inputs=sample.raw["inputs"] | {"least": least}, **changes))


LONGER = ("return dict(Counter(words_of(text)).most_common(top))",)
SHORT = {
    "title": "short words",
    "files": {"a.txt": "b aa b\n"},
    "arguments": {"path": "a.txt", "least": 2},
    "expected": {"aa": 1},
}


def wider_code(sample: Any) -> str:
    code = sample.code.replace("top: int = 3)", "top: int = 3, least: int = 0)")
    code = code.replace(
        "return.\n\n    Returns", "return.\n        least: Leave out shorter words.\n\n    Returns"
    )
    old = "Counter(words_of(text))"
    assert old in code
    return f"```python\n{code.replace(old, 'Counter(w for w in words_of(text) if len(w) >= least)')}```"


def test_an_extension_is_the_next_version_and_is_proved_by_the_old_cases_too(
    library: Library, sample: Any, model: Callable[..., Any]
) -> None:
    first = kept(library, sample, model)
    cases = sample.cases_reply(cases=[*sample.raw_suite["cases"], SHORT])
    forgets = wider_code(sample).replace("most_common(top)", "most_common()")
    complete = model(EXTEND, wider(sample), cases, forgets, wider_code(sample))
    second = build_tool(FREQUENCIES, complete=complete, library=library)
    assert (second.name, second.version) == ("count_words", 2)
    assert complete.replies == []
    assert "others use it as it is" in complete.prompts[1]
    assert "leave out short words" in complete.prompts[1]
    assert "(as before)" in complete.prompts[4], "the module that broke an old case was sent back with it"
    assert len(second.trial.results) > len(first.trial.results) + 1
    assert library.get("count_words") == second


def test_where_an_extension_is_not_proved_the_old_tool_stays_and_one_of_its_own_is_built(
    library: Library, sample: Any, model: Callable[..., Any]
) -> None:
    first, steps = kept(library, sample, model), list[BuildStep]()
    breaking = sample.spec_reply(output_type="any")
    own = {"name": "word_frequencies", "output_type": "array", "output_description": "Pairs.", "examples": []}
    example = {
        "title": "one",
        "files": {"a.txt": "b\n"},
        "arguments": {"path": "a.txt"},
        "expected": [["b", 1]],
    }
    cases = [
        {
            "title": "two",
            "files": {"a.txt": "b a b\n"},
            "arguments": {"path": "a.txt"},
            "expected": [["b", 2], ["a", 1]],
        },
        {
            "title": "none",
            "files": {"a.txt": ""},
            "arguments": {"path": "a.txt"},
            "expected": [],
            "edge": True,
        },
        {"title": "no file", "arguments": {"path": "b.txt"}, "error": "FileNotFoundError"},
        {
            "title": "top",
            "files": {"a.txt": "b a b\n"},
            "arguments": {"path": "a.txt", "top": 1},
            "expected": [["b", 2]],
        },
    ]
    code = sample.code.replace("def count_words", "def word_frequencies").replace(
        "dict[str, int]", "list[list]"
    )
    code = code.replace(
        "dict(Counter(words_of(text)).most_common(top))",
        "[list(p) for p in Counter(words_of(text)).most_common(top)]",
    )
    complete = model(
        EXTEND,
        breaking,
        breaking,
        breaking,
        sample.spec_reply(**own | {"examples": [example]}),
        sample.cases_reply(cases=cases, properties=[]),
        f"```python\n{code}```",
    )
    made = build_tool(FREQUENCIES, complete=complete, library=library, emit=steps.append)
    assert (made.name, made.version) == ("word_frequencies", 1)
    assert "output_type: was object, and has to stay so" in complete.prompts[2]
    (given_up,) = (step for step in steps if isinstance(step, NotExtended))
    assert given_up.base == "count_words"
    assert library.get("count_words") == first


# --- the same thing twice


def test_a_tool_that_passes_the_new_cases_is_used_instead_of_building_it_again(
    library: Library, sample: Any, model: Callable[..., Any]
) -> None:
    first = kept(library, sample, model)
    complete = model(
        '{"new": "it is another job"}', sample.spec_reply(name="word_frequencies"), sample.cases_reply()
    )
    steps = list[BuildStep]()
    assert build_tool(FREQUENCIES, complete=complete, library=library, emit=steps.append) == first
    assert complete.replies == []
    message = [step for step in steps if isinstance(step, Searched)][-1]
    assert "passes all" in message.decision.reason


def test_where_the_planned_call_does_not_fit_the_duplicate_it_is_refused_by_name(
    library: Library, sample: Any, model: Callable[..., Any]
) -> None:
    kept(library, sample, model)
    need = FREQUENCIES.model_copy(update={"calls": ({"file": "$write.value"},)})
    text = json.dumps([sample.raw | {"name": "word_frequencies"}, sample.raw_suite]).replace(
        '"path"', '"file"'
    )
    spec, suite = json.loads(text)
    complete = model(
        '{"new": "no"}', f"```json\n{json.dumps(spec)}\n```", f"```json\n{json.dumps(suite)}\n```"
    )
    with pytest.raises(
        ToolNotBuilt, match=r"'count_words' does it already .* call count_words\(path: string"
    ) as caught:
        build_tool(need, complete=complete, library=library)
    assert caught.value.name == "word_frequencies"
    assert [tool.name for tool in library.list()] == ["count_words"]


def test_inputs_are_matched_by_name_or_else_by_order_and_type() -> None:
    two = {"a": {"type": "string", "description": "A."}, "b": {"type": "integer", "description": "B."}}
    there = ToolSpec.model_validate(said("there", "-", inputs=two))

    def taken(inputs: dict[str, str], **fields: Any) -> dict[str, str] | None:
        given = {name: {"type": kind, "description": "-"} for name, kind in inputs.items()}
        return taken_for(ToolSpec.model_validate(said("wanted", "-", inputs=given, **fields)), there)

    assert taken({"b": "integer", "a": "string"}) == {"b": "b", "a": "a"}
    assert taken({"x": "string", "y": "integer"}) == {"x": "a", "y": "b"}
    assert taken({"y": "integer", "x": "string"}) is None
    assert taken({"x": "string"}) is None
    assert taken({"x": "string", "y": "integer", "z": "integer"}) is None
    assert taken({"x": "string", "y": "integer"}, output_type="string") is None


def test_the_comparison_ends_with_its_time() -> None:
    def never(*_: Any) -> TrialReport:
        raise AssertionError("the time was over")

    suite = Suite.model_validate({"cases": [{"title": "one", "arguments": {"text": "a"}, "expected": 1}]})
    wanted = COUNTER.spec.model_copy(update={"name": "vowels"})
    assert duplicate_of(wanted, suite, [COUNTER], never, patience_s=-1) is None
