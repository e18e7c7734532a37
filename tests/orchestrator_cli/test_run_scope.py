"""What an agent may call, read and write: the tools it was given, inside the workspace, and no more."""

from pathlib import Path
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint, call
from scripted_model import Cast, caller, code, coder, plan

OWN = {"final_answer", "give_up", "report_surprise", "request_tool"}


def tools_of(request: dict[str, Any]) -> set[str]:
    return {tool["function"]["name"] for tool in request["tools"]}


def test_an_agent_has_the_tools_its_subtask_names_and_no_others(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[plan(caller("look", tools=["read_file"]), coder("write"))],
        agents={
            "Do look": [
                call("write_file", {"path": "a.txt", "content": "x"}),
                call("final_answer", {"answer": "done"}),
            ],
            "Do write": [code("write_file('b.txt', 'x')"), code("final_answer('done')")],
        },
    )
    done = orch("ask", "--json", "Look and write.")
    assert (done.code, done.envelope["states"]) == (0, {"look": "done", "write": "done"})
    assert orch.files() == []
    with_tools = [exchange for exchange in endpoint.of("agent") if exchange.request.get("tools")]
    assert tools_of(with_tools[0].request) == OWN | {"read_file"}
    assert "write_file" in with_tools[1].text
    (ran,) = [row for row in orch.events("CodeRan") if row["error"]]
    assert "write_file" in ran["error"]


def test_domain_is_asked_about_unless_the_user_named_it(orch: Orch, endpoint: Endpoint) -> None:
    look = caller("look", tools=["fetch_url"], network=["example.org"])
    finish = {"Do look": [call("final_answer", {"answer": "done"})]}
    endpoint.reply = Cast(planner=[plan(look)], agents=finish)
    done = orch("ask", "Look.")
    assert done.code == 6
    assert "wants to reach example.org" in done.error
    endpoint.reply = Cast(planner=[plan(look)], agents=finish)
    assert orch("ask", "--network", "example.org", "Look.").code == 0
    assert "fetch_url" in tools_of(endpoint.of("agent")[0].request)


@pytest.fixture
def secrets(orch: Orch) -> Path:
    """A workspace with protected files and a link that leads out of it; the file outside."""
    outside = orch.home.parent / "outside.txt"
    outside.write_text("secret of the host")
    (orch.workspace / ".git").mkdir()
    (orch.workspace / ".git" / "config").write_text("secret of git")
    (orch.workspace / ".env").write_text("secret of env")
    (orch.workspace / "way-out").symlink_to(outside)
    return outside


def test_file_tools_stay_inside_the_workspace_whatever_path_they_are_given(
    orch: Orch, endpoint: Endpoint, secrets: Path
) -> None:
    paths = ["../outside.txt", str(secrets), "way-out", ".git/config", ".env", "fileLog.md", "a/../../x"]
    steps = [call("read_file", {"path": path}) for path in paths]
    steps += [call("write_file", {"path": path, "content": "changed"}) for path in paths]
    endpoint.reply = Cast(
        planner=[plan(caller("look", tools=["read_file", "write_file"]))],
        agents={"Do look": [*steps, call("final_answer", {"answer": "done"})]},
    )
    done = orch("ask", "Look.", ORCH_MAX_STEPS="30")
    assert done.code == 0, done.err
    called = [row for row in orch.events("ToolCalled") if row["tool"] != "final_answer"]
    assert [(row["arguments"]["path"], row["ok"]) for row in called] == [(p, False) for p in paths * 2]
    assert secrets.read_text() == "secret of the host"
    assert orch.file(".git/config") == "secret of git"
    assert orch.file(".env") == "secret of env"
    assert not any("secret of" in exchange.text for exchange in endpoint.exchanges)


def test_code_sees_no_protected_file_and_changes_none(orch: Orch, endpoint: Endpoint, secrets: Path) -> None:
    endpoint.reply = Cast(
        planner=[plan(coder("pry"))],
        agents={
            "Do pry": [
                code("import os\nprint(sorted(os.listdir('.')))"),
                code("print(open('way-out').read())"),
                code(
                    "from pathlib import Path\n"
                    "Path('.git/hooks').mkdir(parents=True)\n"
                    "Path('.git/hooks/pre-commit').write_text('evil')\n"
                    "Path('.env').write_text('evil')\n"
                    "Path('fileLog.md').write_text('evil')\n"
                    "Path('sub').mkdir()\n"
                    "Path('sub/.env.local').write_text('evil')\n"
                    "Path('sub/fine.txt').write_text('fine')\n"
                    "final_answer('done')"
                ),
            ]
        },
    )
    done = orch("ask", "Pry.")
    assert done.code == 0, done.err
    assert orch.files() == [".env", ".git/config", "sub/fine.txt", "way-out"]
    assert orch.file(".env") == "secret of env"
    assert orch.log.startswith("# fileLog")
    assert not any("secret of" in exchange.text for exchange in endpoint.exchanges)
    noticed = " ".join(row["message"] for row in orch.events("Noticed"))
    for name in (".git", ".env", "fileLog.md"):
        assert f"pry wrote {name}" in noticed
