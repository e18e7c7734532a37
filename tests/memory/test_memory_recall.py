"""What comes back for a prompt, and above all what does not; the floors were set on the pairs below."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import JsonValue

from memory import MemoryStore, Record, Scope, open_store, recall, run_record, tool_record
from memory.related_tools import FEW_TOOLS

ME = Scope()
NOW = datetime(2026, 3, 1, tzinfo=UTC)

ALIKE = [
    ("Make a report on bitcoin prices of the last week", "Create a report about last week's bitcoin price"),
    ("Translate letter.txt to German", "Translate the file letter.txt into French"),
    ("Summarize the paper attention.pdf", "Summarise attention.pdf in five sentences"),
    ("Count the words in every markdown file of docs", "How many words are in each markdown file in docs?"),
    (
        "Find three techniques for parallel task graphs and write an example in a file",
        "Research techniques for running task graphs in parallel and write an example file",
    ),
    ("Write unit tests for parser.py", "Add unit tests to parser.py and run them"),
    (
        "Download the weather data of Berlin and plot temperatures",
        "Plot the temperature in Berlin from downloaded weather data",
    ),
    (
        "Schreibe einen Bericht über den Bitcoin-Kurs",
        "Bericht über den Kurs von Bitcoin der letzten Woche",
    ),
    ("What is the capital of France?", "Tell me the capital of France"),
    ("Refactor the login module to use async", "Make the login module async"),
    ("Rename all jpg files by their date", "Rename my jpg photos by date taken"),
    ("比特币价格分析", "分析比特币的价格"),
]

UNRELATED = [
    "Write a poem about rivers",
    "Schreibe ein Gedicht über den Fluss",
    "Give me a recipe for pancakes",
    "Compare the three largest cloud providers in a table",
    "Plan a trip to Rome for two",
    "Explain how quicksort works",
    "Generate a password with 20 characters",
    "List all open ports on this machine",
    "Write a short story about a dragon",
    "What is the largest city of Japan?",
    "Write a python script that prints the first 100 primes",
    "hello",
    "what is it?",
    "写一首关于山的诗",
]

TOOLS = [
    ("csv_mean", "Compute the mean of a numeric column of a CSV file.", ["mean of sales.csv"]),
    ("fetchBitcoinPrice", "Return the current price of Bitcoin in US dollars from a public API.", []),
    ("rename_by_exif_date", "Rename photos by the date in their EXIF data.", []),
    ("count_words", "Count the words of a text file.", []),
    ("pdf_to_text", "Extract the plain text of a PDF document, page by page.", ["Summarize attention.pdf"]),
    ("render_bar_chart", "Draw a bar chart from labels and values and save it as PNG.", []),
    ("sha256_of_files", "Compute SHA-256 checksums of all files below a folder.", []),
    ("french_translation", "Translate English text into French with a dictionary.", []),
]

SERVED = [
    ("Compute the mean of the column age in people.csv", "csv_mean"),
    ("Report the bitcoin price each hour", "fetchBitcoinPrice"),
    ("Sort my holiday photos by date and rename them", "rename_by_exif_date"),
    ("How many words does README.md have?", "count_words"),
    ("Summarize thesis.pdf", "pdf_to_text"),
    ("Draw a chart of monthly revenue", "render_bar_chart"),
    ("Verify checksums of the downloaded files", "sha256_of_files"),
    ("Translate the homepage into French", "french_translation"),
]


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    return open_store(tmp_path)


def past(
    run: str,
    prompt: str,
    outcome: str = "completed",
    age_h: float = 0,
    tools: Sequence[str] = (),
    scope: Scope = ME,
) -> Record:
    plan: list[dict[str, JsonValue]] = [
        {
            "id": "a",
            "title": "First",
            "kind": "agent",
            "role": "coder",
            "tools": list(tools),
            "depends_on": [],
        },
        {"id": "b", "title": "Then", "kind": "tool", "role": None, "tools": [], "depends_on": ["a"]},
    ]
    return run_record(
        run=run,
        prompt=prompt,
        outcome=outcome,
        answer=f"answer of {run}",
        plan=plan,
        revisions=1,
        calls=7,
        cost=0.0123,
        seconds=4.5,
        lesson="ask for less",
        scope=scope,
        created=NOW - timedelta(hours=age_h),
    )


def built(
    name: str, purpose: str, prompts: Sequence[str] = (), scope: Scope = ME, version: str = "1"
) -> Record:
    return tool_record(
        name=name,
        version=version,
        purpose=purpose,
        signature=f"{name}(x: str) -> str",
        prompts=prompts,
        scope=scope,
    )


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> MemoryStore:
    """The first prompts of `ALIKE`, numbered, and `TOOLS`; only to be read."""
    store = open_store(tmp_path_factory.mktemp("filled"))
    store.add([past(str(number), prompt) for number, (prompt, _) in enumerate(ALIKE)])
    store.add([built(name, purpose, prompts) for name, purpose, prompts in TOOLS])
    return store


@pytest.mark.parametrize("large", ["plan", "lesson", "outcome"])
def test_one_run_that_is_too_large_is_not_shown_whole(store: MemoryStore, large: str) -> None:
    record, long = past("r1", "Count the words of a.txt"), "x" * 200_000
    rows: list[JsonValue] = [{"id": "a", "title": long, "kind": "agent", "tools": [], "depends_on": []}]
    store.add([record.model_copy(update={"data": record.data | {large: rows if large == "plan" else long}})])
    found = recall(store, "Count the words of a.txt", scope=ME).runs
    assert sum(len(run.model_dump_json()) for run in found) < 10_000
    assert [run.plan for run in found] == ([()] if large == "plan" else [])


def test_an_empty_memory_recalls_nothing(store: MemoryStore) -> None:
    found = recall(store, "Make a report on bitcoin prices", scope=ME)
    assert found.runs == ()
    assert found.tools == ()


def test_recalled_runs_have_all_fields(store: MemoryStore) -> None:
    store.add([past("r1", "Make a report on bitcoin prices", tools=["fetch"])])
    (run,) = recall(store, "Make a report on bitcoin prices", scope=ME).runs
    assert (run.run, run.prompt, run.outcome) == ("r1", "Make a report on bitcoin prices", "completed")
    assert (run.answer_summary, run.lesson) == ("answer of r1", "ask for less")
    assert (run.revisions, run.calls, run.cost, run.seconds, run.score) == (1, 7, 0.0123, 4.5, 1.0)
    assert run.plan[0] == {
        "id": "a",
        "title": "First",
        "kind": "agent",
        "role": "coder",
        "tools": ["fetch"],
        "depends_on": [],
    }
    assert [subtask["depends_on"] for subtask in run.plan] == [[], ["a"]]


def test_the_same_prompt_again_ranks_its_run_first(filled: MemoryStore) -> None:
    for number, (prompt, _) in enumerate(ALIKE):
        best = recall(filled, f"  {prompt}\n", scope=ME).runs[0]
        assert (best.run, best.score) == (str(number), 1.0)


@pytest.mark.parametrize(("number", "again"), [(number, again) for number, (_, again) in enumerate(ALIKE)])
def test_a_rephrased_prompt_ranks_its_run_first(filled: MemoryStore, number: int, again: str) -> None:
    assert recall(filled, again, scope=ME).runs[0].run == str(number)


def test_a_rephrased_prompt_is_found_in_a_small_memory(store: MemoryStore) -> None:
    store.add([past("only", ALIKE[0][0])])
    assert [run.run for run in recall(store, ALIKE[0][1], scope=ME).runs] == ["only"]


@pytest.mark.parametrize("prompt", UNRELATED)
def test_an_unrelated_prompt_recalls_nothing(filled: MemoryStore, prompt: str) -> None:
    found = recall(filled, prompt, scope=ME)
    assert [run.prompt for run in found.runs] == []
    assert [tool.name for tool in found.tools] == []


def test_an_unrelated_prompt_recalls_nothing_from_a_large_memory_either(store: MemoryStore) -> None:
    cities = [
        f"{first}{last}"
        for first in ("Ber", "Lon", "Ro", "Par", "Os")
        for last in ("lin", "don", "me", "is", "lo")
    ]
    store.add(
        past(f"{city}-{year}", f"Write a report about the weather in {city} in {year} and save it as a file")
        for city in cities
        for year in range(1980, 2020)
    )
    assert (
        recall(store, "Write a report about the history of chess and save it as a file", scope=ME).runs == ()
    )
    best = recall(store, "Report on the weather in London in 1999", scope=ME).runs[0]
    assert best.run == "London-1999"


def test_of_the_same_prompt_the_completed_and_newest_run_comes_first(store: MemoryStore) -> None:
    prompt = "Make a report on bitcoin prices"
    store.add(
        [
            past("failed", prompt, "failed"),
            past("old", prompt, age_h=2),
            past("new", prompt, age_h=1),
            past("older failure", prompt, "failed", age_h=3),
        ]
    )
    assert [run.run for run in recall(store, prompt, scope=ME).runs] == ["new", "failed"]


def test_limits_are_respected(store: MemoryStore) -> None:
    store.add([past(str(n), f"Make report {n} on bitcoin prices") for n in range(6)])
    store.add([built(f"bitcoin_{n}", "Fetch bitcoin prices") for n in range(12)])
    found = recall(store, "Make a report on bitcoin prices", scope=ME)
    assert (len(found.runs), len(found.tools)) == (3, 8)
    found = recall(store, "Make a report on bitcoin prices", scope=ME, max_runs=1, max_tools=0)
    assert (len(found.runs), len(found.tools)) == (1, 0)


@pytest.mark.parametrize(("prompt", "tool"), SERVED)
def test_a_tool_is_found_by_what_it_is_for(filled: MemoryStore, prompt: str, tool: str) -> None:
    assert recall(filled, prompt, scope=ME).tools[0].name == tool


def test_a_prompt_that_needs_several_tools_finds_them_all(filled: MemoryStore) -> None:
    prompt = (
        "Read all PDF files in papers, extract their titles, count the words of each, "
        "and draw a bar chart of the counts"
    )
    names = {tool.name for tool in recall(filled, prompt, scope=ME).tools}
    assert names == {"pdf_to_text", "count_words", "render_bar_chart"}


def test_a_related_tool_does_not_serve(filled: MemoryStore) -> None:
    (near,) = recall(filled, "Translate letter.txt to German", scope=ME).tools
    assert (near.name, near.serves) == ("french_translation", False)
    (fits,) = recall(filled, "Translate the homepage into French", scope=ME).tools
    assert (fits.name, fits.serves) == ("french_translation", True)


def test_a_few_related_tools_come_in_search_order(store: MemoryStore) -> None:
    things = [f"{first}{last}" for first in ("ba", "do", "fi", "gu") for last in ("lon", "mer", "rak", "tis")]
    store.add(built(f"weigh_{thing}", f"Weigh a {thing} on calibrated laboratory scales") for thing in things)
    found = recall(store, "Describe the laboratory in the old harbour where a domer stood", scope=ME).tools
    assert [tool.serves for tool in found] == [True] + [False] * (FEW_TOOLS - 1)
    assert found[0].name == "weigh_domer"


def test_all_tools_that_serve_are_returned(store: MemoryStore) -> None:
    store.add(built(f"resize_{kind}", f"Resize {kind} pictures") for kind in ("png", "gif", "bmp", "webp"))
    store.add(built(f"rotate_{kind}", f"Rotate {kind} pictures") for kind in ("png", "gif", "bmp", "webp"))
    prompt = "Rotate and resize my png, gif, bmp and webp pictures"
    found = recall(store, prompt, scope=ME).tools
    assert len(found) == 8
    assert all(tool.serves for tool in found)


def test_common_words_find_no_tool(store: MemoryStore) -> None:
    served = "Make a list of all files and print the result"
    store.add([built("geo_lookup", "Latitude and longitude", [served])])
    assert recall(store, "Please create a report file and show me the result", scope=ME).tools == ()
    assert [tool.name for tool in recall(store, served, scope=ME).tools] == ["geo_lookup"]


def test_a_tool_is_found_by_its_name_alone(store: MemoryStore) -> None:
    store.add([built("parseIcsCalendar", "")])
    (tool,) = recall(store, "use parse_ics_calendar for my appointments", scope=ME).tools
    assert (tool.name, tool.version, tool.signature) == (
        "parseIcsCalendar",
        "1",
        "parseIcsCalendar(x: str) -> str",
    )


def test_a_tool_is_found_by_a_request_it_served_before(store: MemoryStore) -> None:
    store.add([built("geo_lookup", "Latitude and longitude by name", ["How far is Oslo from Bergen?"])])
    (tool,) = recall(store, "How far is Bergen from Trondheim?", scope=ME).tools
    assert tool.name == "geo_lookup"


def test_a_tool_is_found_through_the_completed_run_that_used_it(store: MemoryStore) -> None:
    store.add([built("geo_lookup", "Latitude and longitude"), built("unused", "Something else")])
    store.add([past("r", "How far is Oslo from Bergen?", tools=["geo_lookup", "python"])])
    assert [tool.name for tool in recall(store, "How far is Oslo from Bergen?", scope=ME).tools] == [
        "geo_lookup"
    ]


def test_a_failed_run_does_not_recommend_its_tools(store: MemoryStore) -> None:
    store.add([built("geo_lookup", "Latitude and longitude")])
    store.add([past("r", "How far is Oslo from Bergen?", "failed", tools=["geo_lookup"])])
    assert recall(store, "How far is Oslo from Bergen?", scope=ME).tools == ()


def test_in_a_project_the_users_own_tools_are_found_and_those_of_other_projects_are_not(
    store: MemoryStore,
) -> None:
    here, there = Scope(project="here"), Scope(project="there")
    store.add(
        [built("own_tool", "Latitude of a city"), built("local_tool", "Latitude of a city", scope=here)]
    )
    store.add([built("foreign_tool", "Latitude of a city", scope=there)])
    store.add([past("r", "How far is Oslo from Bergen?", tools=["own_tool", "foreign_tool"], scope=here)])
    names = [tool.name for tool in recall(store, "How far is Oslo from Bergen?", scope=here).tools]
    assert names == ["own_tool"]
    names = [tool.name for tool in recall(store, "latitude of the city Oslo", scope=here).tools]
    assert sorted(names) == ["local_tool", "own_tool"]


def test_a_newer_version_of_a_tool_takes_the_place_of_the_older(store: MemoryStore) -> None:
    store.add([built("geo", "Latitude of a city")])
    store.add([built("geo", "Latitude of a city", version="2")])
    assert [tool.version for tool in recall(store, "Latitude of a city", scope=ME).tools] == ["2"]


def test_recall_reads_what_another_opening_of_the_folder_wrote(tmp_path: Path) -> None:
    open_store(tmp_path).add([past("r1", "Make a report on bitcoin prices")])
    assert recall(open_store(tmp_path), "Make a report on bitcoin prices", scope=ME).runs[0].run == "r1"


def test_warnings_are_logged_by_default(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(tmp_path)
    (tmp_path / "outbox" / "0.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert store.count((), ME) == 0
    assert "0.unreadable" in caplog.text
