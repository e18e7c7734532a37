"""Another folder is put in the place of one that orch was given before: nothing works on it unasked."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from command import Orch
from endpoint import Endpoint
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from scripted_model import Cast, answered, code, coder, plan
from test_mcp_server import keep_note
from test_replaced_folders import SECRET, Swap, folder, link, names
from test_schedules import Up, lines, up  # noqa: F401 - a fixture
from test_terminal_people import wait_for

from orchestrator_cli.models.sources import GivenModel, ModelFree
from orchestrator_cli.runtime import open_run
from orchestrator_cli.same_folder import FolderReplaced
from orchestrator_cli.settings import load_settings

SWAPS = pytest.mark.parametrize("swap", [link, folder])


@pytest.fixture
def private(tmp_path: Path) -> Path:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "diary.txt").write_text(SECRET)
    return tmp_path / "private"


def writes(*given: str) -> Cast:
    """A run for each of the names, which writes a file of that name."""
    act = {
        f"Do {name}": [code(f"open('{name}.txt', 'w').write('{name}')\nfinal_answer('{name}')")]
        for name in given
    }
    return Cast(planner=[plan(coder(name)) for name in given], agents=act, answer=given)


@SWAPS
def test_settings_count_for_the_folder_that_they_were_read_from(
    tmp_path: Path, private: Path, monkeypatch: pytest.MonkeyPatch, swap: Swap
) -> None:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir(mode=0o700)
    place = tmp_path / "place"
    place.mkdir()
    settings = load_settings({}, place)
    mark = settings.origin.mark
    swap(place, private)
    with (
        pytest.raises(FolderReplaced),
        open_run(settings, [], source=GivenModel(ModelFree()), wants_engine=False),
    ):
        pass
    with pytest.raises(FolderReplaced):
        load_settings({}, place, mark=mark)
    assert names(place) == ["diary.txt"]


@SWAPS
def test_an_mcp_server_works_on_its_own_folder(
    orch: Orch, endpoint: Endpoint, private: Path, swap: Swap
) -> None:
    keep_note(orch)
    endpoint.reply = writes("a")
    command = StdioServerParameters(
        command=orch.command[0], args=[*orch.command[1:], "mcp"], env=orch.environment(), cwd=orch.workspace
    )

    async def use() -> list[bool]:
        async with Client(stdio_client(command)) as client:
            first = await client.call_tool("note", {"text": "one"})
            swap(orch.workspace, private)
            others = [
                await client.call_tool("note", {"text": "two"}),
                await client.call_tool("ask", {"prompt": "Do it."}),
            ]
            return [one.is_error for one in (first, *others)]

    assert anyio.run(use) == [False, True, True]
    assert (names(orch.workspace), endpoint.arrived) == (["diary.txt"], 0)


@SWAPS
def test_the_interactive_loop_stays_in_its_folder(
    orch: Orch, endpoint: Endpoint, private: Path, swap: Swap
) -> None:
    (orch.home / "orch.toml").write_text(
        f'[processes.mark]\nwhen = "m"\ncommand = ["touch", "{orch.home}/ran"]\n'
    )
    endpoint.reply = writes("a", "b")
    process = subprocess.Popen(
        orch.command,
        env=orch.environment(),
        cwd=orch.workspace,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("Do a.\n")
    process.stdin.flush()
    assert process.stdout.readline() == "a\n"
    asked = endpoint.arrived
    swap(orch.workspace, private)
    process.stdin.write("Do b.\n/bg Do b.\n/plan Do b.\n/run mark\n/model openai/other\n/log\n/undo\n")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("is not the folder any more")) == (2, 7), err
    assert (out, endpoint.arrived - asked, (orch.home / "ran").exists()) == ("", 0, False)
    assert names(orch.workspace) == ["diary.txt"]


@pytest.mark.parametrize("args", [("ask", "Do it."), ("run", "mark")])
def test_a_process_of_its_own_works_on_the_folder_that_it_was_started_for(
    orch: Orch, endpoint: Endpoint, args: tuple[str, ...]
) -> None:
    (orch.home / "orch.toml").write_text('[processes.mark]\nwhen = "m"\ncommand = ["touch", "ran"]\n')
    done = orch(*args, "--mark=1:2:an-earlier-one")
    assert (done.code, endpoint.arrived, names(orch.workspace)) == (2, 0, [])


@pytest.mark.thorough
@SWAPS
def test_a_schedule_runs_in_its_folder_until_another_is_accepted(
    orch: Orch,
    endpoint: Endpoint,
    private: Path,
    up: Callable[[], Up],  # noqa: F811
    swap: Swap,
) -> None:
    (orch.home / "orch.toml").write_text('[processes.mark]\nwhen = "m"\ncommand = ["touch", "ran.txt"]\n')
    for name, when in (("often", "--every=2s"), ("seen", "--on-file=*.csv")):
        orch("schedule", "add", name, "--process=mark", when)
    assert json.loads(orch("schedule", "show", "often", "--json").out)["mark"]
    serving = up()
    wait_for(lambda: names(orch.workspace) == ["fileLog.md", "ran.txt"])
    swap(orch.workspace, private)
    wait_for(lambda: "often does not run" in serving.log.read_text())
    (orch.workspace / "private.csv").write_text("")
    refused = orch("schedule", "run", "often")
    assert (refused.code, "orch schedule accept often" in refused.error) == (2, True)
    assert "warning" in orch("schedule", "list").out
    time.sleep(5)  # more of its times are due, and a file has changed
    assert (names(orch.workspace), "private.csv" in serving.log.read_text()) == (
        ["diary.txt", "private.csv"],
        False,
    )
    assert orch("schedule", "accept", "often").code == 0
    wait_for(lambda: "ran.txt" in names(orch.workspace))
    serving.end()


@pytest.mark.parametrize("source", ["notes", "notes/a.md"])
@SWAPS
def test_documents_are_read_where_they_were_added(orch: Orch, private: Path, source: str, swap: Swap) -> None:
    notes = orch.workspace / "notes"
    notes.mkdir()
    (notes / "a.md").write_text("Owls hunt at night.")
    (private / "a.md").write_text(SECRET)
    assert orch("kb", "add", source).code == 0
    swap(notes, private)
    done = orch("kb", "refresh", "--json")
    assert (done.code, len(done.envelope["faults"]), done.envelope["removed"]) == (1, 1, [])
    (kept,) = json.loads(orch("kb", "search", "owls private", "--json").out)
    assert "Owls" in kept["text"]
    assert orch("kb", "add", str((orch.workspace / source).resolve())).code == 0
    if swap is folder:
        assert orch("kb", "refresh").code == 0


def test_a_document_that_became_a_link_is_not_read(orch: Orch, private: Path) -> None:
    (orch.workspace / "a.md").write_text("Owls hunt at night.")
    assert orch("kb", "add", "a.md").code == 0
    (orch.workspace / "a.md").unlink()
    (orch.workspace / "a.md").symlink_to(private / "diary.txt")
    assert (orch("kb", "refresh").code, SECRET in orch("kb", "search", "private").out) == (1, False)


def test_a_document_that_is_written_anew_is_read(orch: Orch) -> None:
    (orch.workspace / "a.md").write_text("Owls hunt at night.")
    assert orch("kb", "add", "a.md").code == 0
    (orch.workspace / "b.md").write_text("Bats too.")
    (orch.workspace / "b.md").replace(orch.workspace / "a.md")
    assert orch("kb", "refresh", "--json").envelope["changed"] == [str(orch.workspace / "a.md")]


@pytest.mark.resident
def test_a_run_in_the_background_is_started_for_its_folder(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[answered("Yes.")])
    begun = orch("ask", "--detach", "-q", "Is it?")
    assert begun.code == 0, begun.err
    assert orch("attach", begun.out.strip(), "-q").out == "Yes.\n"


def test_doctor_names_a_program_that_others_may_exchange(orch: Orch, tmp_path: Path) -> None:
    for name, mode in (("open", 0o777), ("own", 0o755)):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name).chmod(mode)
        (tmp_path / name / "bin" / "go").write_text("")
    text = "".join(
        f'[processes.{name}]\nwhen = "m"\ncommand = ["sh", "{tmp_path}/{name}/bin/go"]\n'
        for name in ("open", "own")
    )
    (orch.home / "orch.toml").write_text(f'{text}[notify]\ncommand = ["{tmp_path}/open/bin/go"]\n')
    (row,) = [row for row in json.loads(orch("doctor", "--json").out) if row["name"] == "settings"]
    said = [line for line in row["detail"].splitlines() if line.startswith("warning")]
    assert [line.split(" runs ")[0] for line in said] == [
        "warning: notify.command",
        "warning: the process open",
    ]
