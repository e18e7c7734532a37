"""What README.md and docs/ say is true: generated parts match the code, links work, the examples run, and the
session, the log and the memory that they show are those of a real demo.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main
from documents import command_pages
from endpoint import Endpoint

from memory import RUN, Query, Scope, open_store
from orchestrator_cli.cli.app import app
from orchestrator_cli.cli.command_list import COMMANDS
from orchestrator_cli.roles import parse_role
from orchestrator_cli.settings import load_settings

ROOT = Path(__file__).parents[1]
WRITTEN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES = [*WRITTEN, ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/commands/*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")

LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^(`{3,})([a-z]*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)


def blocks(text: str, language: str) -> list[str]:
    return [body for _, kind, body in BLOCK.findall(text) if kind == language]


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_generated_parts_match_the_code():
    command = [sys.executable, ROOT / "docs" / "generate.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"run make pages\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_that_names_a_file_leads_to_it(page):
    named = re.findall(r"\[([\w/.]+\.(?:py|md))\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    assert [label for label, link in named if Path(label).name.lower() != Path(link).name.lower()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_existing_files_and_headings(page):
    broken = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_the_readme_is_short():
    assert len(README.encode()) <= 10_000


def test_every_page_is_linked_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or not page.is_file() or page.suffix != ".md":
            continue
        reached.add(page)
        links = LINK.findall(page.read_text(encoding="utf-8"))
        waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links if "://" not in link]
    assert set(ROOT.glob("docs/**/*.md")) <= reached


def test_every_make_target_in_the_pages_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"(?:`|^|\$ )make ([a-z]+)", text, re.MULTILINE)
        assert set(named) <= targets, page.name


def test_the_example_settings_load(tmp_path):
    pages = [ROOT / "examples" / "orch.toml", ROOT / "docs" / "models.md"]
    texts = [pages[0].read_text(encoding="utf-8"), *blocks(pages[1].read_text(encoding="utf-8"), "toml")]
    for text in texts:
        (tmp_path / "orch.toml").write_text(text, encoding="utf-8")
        settings = load_settings({}, tmp_path, lambda _: True)
        assert settings.model_for("planner") == "anthropic/claude-opus-4-5"
        assert settings.fallbacks == ("openai/gpt-5-mini",)


def test_the_example_role_is_valid_and_quoted_in_the_docs():
    text = (ROOT / "examples" / "translator.md").read_text(encoding="utf-8")
    assert parse_role("translator.md", text).agent == "tools"
    assert text in (ROOT / "docs" / "roles-and-tools.md").read_text(encoding="utf-8")


EXAMPLES = list(command_pages.examples(WRITTEN))


def test_examples_are_found_on_the_pages():
    assert len(EXAMPLES) > 80
    assert {one.command for one in EXAMPLES} >= {"ask", "schedule", "undo", "config", "kb", "trust", ""}


def refusal(words: tuple[str, ...]) -> str:
    """Why `orch` does not take these words; empty if it does."""
    command: Any = typer.main.get_command(app)
    command.load(*COMMANDS)
    context, rest = None, list(words)
    try:
        while True:
            context = command.make_context(command.name, rest, parent=context)
            rest = [*getattr(context, "_protected_args", ()), *context.args]
            if not rest or not hasattr(command, "resolve_command"):
                return ""
            _, command, rest = command.resolve_command(context, rest)
    except typer.Exit:  # help
        return ""
    except Exception as exc:
        return getattr(exc, "message", "") or type(exc).__name__


def test_every_call_on_the_pages_is_one_that_orch_takes():
    found = [(one.page.name, one.line, refusal(one.words)) for one in EXAMPLES]
    assert [row for row in found if row[2]] == []


@pytest.mark.parametrize("words", [("ask", "--no-such"), ("schedule", "begin"), ("undo",), ("no-such",)])
def test_a_call_that_orch_does_not_take_is_noticed(words):
    assert refusal(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_and_data_on_the_pages_can_be_read(page, tmp_path, monkeypatch):
    monkeypatch.setenv("ORCH_HOME", str(tmp_path))
    text = page.read_text(encoding="utf-8")
    for body in blocks(text, "json"):
        json.loads(body)
    for body in blocks(text, "toml"):
        (tmp_path / "orch.toml").write_text(body, encoding="utf-8")
        settings = load_settings({}, ROOT)
        assert tomllib.loads(body).keys() <= settings.model_fields_set


# --- what has to be run


class Place(NamedTuple):
    """A user's home with a running Prefect server, and the environment that selects it."""

    home: Path
    env: dict[str, str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("home")
    data = str(home / "data")
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "ORCH_HOME": data, "LC_ALL": "C.UTF-8"}
    yield Place(home, env)
    server = home / "data" / "prefect" / "server.json"
    if server.is_file():
        _end(json.loads(server.read_text())["pid"])


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)


class Demo(NamedTuple):
    screen: list[str]
    log: list[str]
    home: Path


@pytest.fixture(scope="module")
def demo(place: Place) -> Demo:
    """A real run of the demo: what it printed and left behind."""
    folder = place.home / "orch-demo"
    command = [sys.executable, "-m", "orchestrator_cli", "demo", "-C", str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=170, env=place.env, cwd=place.home
    )
    assert done.returncode == 0, done.stderr
    log = (folder / "fileLog.md").read_text(encoding="utf-8").splitlines()
    return Demo(done.stderr.splitlines(), log, place.home / "data" / "demo")


def _steady(line: str) -> str:
    """A line without what differs between runs."""
    return re.sub(r"\d+(\.\d+)? (ms|s|min)\b( \d+ s\b)?", "TIME", line).strip()


def _unseen(shown: list[str], real: list[str]) -> list[str]:
    """The shown lines without a real line that equals them, or starts with them if they end in `…`."""
    found = [_steady(line) for line in real]
    wanted = [line for line in map(_steady, shown) if line not in ("", "…")]
    return [line for line in wanted if not any(_is_shown_as(have, line) for have in found)]


def _is_shown_as(real: str, line: str) -> bool:
    return real.startswith(line[:-1].rstrip()) if line.endswith("…") else real == line


@pytest.mark.slow
def test_the_session_in_the_readme_is_from_the_demo(demo):
    session = next(block for block in blocks(README, "") if block.startswith("$ make demo"))
    assert _unseen(session.splitlines()[1:], demo.screen) == []


@pytest.mark.slow
def test_the_log_excerpt_is_from_the_demo(demo):
    (excerpt,) = blocks(DEMO, "markdown")
    # Numbers of entries depend on which of two parallel subtasks was first.
    shown = [re.sub(r"^### \d+", "### N", line) for line in excerpt.splitlines()]
    log = [re.sub(r"^### \d+", "### N", line) for line in demo.log]
    assert _unseen(shown, log) == []


@pytest.mark.slow
def test_the_memory_excerpt_is_from_the_demo(demo):
    (excerpt,) = blocks(DEMO, "json")
    store = open_store(demo.home / "memory")
    (hit,) = store.search(Query("Create an empty file", kinds=RUN, scope=Scope(), limit=5))
    store.close()
    real = {"kind": hit.record.kind, "prompt": hit.record.text, **hit.record.data}
    for name, shown in json.loads(excerpt).items():
        assert _unseen([str(shown)], [str(real[name])]) == []


PLAN = json.dumps(
    {
        "goal": "the question is answered",
        "subtasks": [
            {"id": "reply", "title": "Reply", "kind": "answer", "instruction": "One file, one line."}
        ],
    }
)


def _python(code: list[str], place: Place, endpoint: Endpoint, cwd: Path) -> str:
    endpoint.reply = lambda request, n: PLAN
    env = place.env | {"OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": "none"}
    done = subprocess.run(
        [sys.executable, *code], capture_output=True, text=True, check=False, timeout=170, env=env, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_python_example_in_the_readme_runs(place, endpoint, tmp_path):
    code = next(block for block in blocks(README, "python") if "open_run" in block)
    assert _python(["-c", code], place, endpoint, tmp_path) == "One file, one line. 1\n"


@pytest.mark.slow
def test_the_python_example_with_a_file_runs(place, endpoint, tmp_path):
    (tmp_path / "lease.txt").write_text("Due in May.")
    (code,) = blocks((ROOT / "docs" / "attachments.md").read_text(encoding="utf-8"), "python")
    assert _python(["-c", code], place, endpoint, tmp_path) == "One file, one line.\n"


@pytest.mark.slow
def test_the_example_with_a_view_runs(place, endpoint, tmp_path):
    example = str(ROOT / "examples" / "watch.py")
    assert _python([example, "How many lines?"], place, endpoint, tmp_path) == "One file, one line.\n"


@pytest.mark.slow
def test_the_examples_of_a_library_run_in_their_order(tmp_path):
    code = "\n".join(blocks((ROOT / "docs" / "memory.md").read_text(encoding="utf-8"), "python"))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" ()\n")  # no residue of a text that never was there


@pytest.mark.slow
def test_the_commands_of_the_readme_look_at_a_run(demo, place):
    (block,) = [block for block in blocks(README, "") if block.startswith("orch diff last")]
    codes = {}
    for line in block.splitlines():
        words = line.partition("#")[0].split()
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator_cli", *words[1:]],
            env=place.env,
            cwd=place.home / "orch-demo",
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        codes[" ".join(words[1:])] = done.returncode
    assert codes == dict.fromkeys(("diff last", "undo last", "show last", "resume last", "log verify"), 0)


@pytest.mark.slow
def test_the_loop_takes_lines_and_prompts_of_ones_own(place, endpoint, tmp_path):
    page = (ROOT / "docs" / "loop.md").read_text(encoding="utf-8")
    (template,) = blocks(page, "markdown")
    prompts = place.home / "data" / "prompts"
    prompts.mkdir(parents=True)
    (prompts / "review.md").write_text(template, encoding="utf-8")
    (typed,) = [
        block.strip().removeprefix("orch> ")
        for block in blocks(page, "")
        if block.startswith("orch> /review")
    ]
    (call,) = [one for one in EXAMPLES if one.page.name == "loop.md" and one.line.endswith("prompts.txt")]
    endpoint.reply = lambda request, n: PLAN
    env = place.env | {"OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": "none"}
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator_cli", *call.words],
        input=f"{typed}\n/help\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
        env=env,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "One file, one line.\n"
    asked = endpoint.exchanges[0].text
    assert "Review the file february.csv" in asked
    assert "february.csv.review.md" in asked
    assert "/review" in done.stderr
