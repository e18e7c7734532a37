"""`orch config`: the origin of each setting, and changes of a user's own file that keep the rest of it."""

import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from command import Orch

MINE = """# mine

max_calls = 50  # few
approve = ["plan"]

# about memory
[memory]
url = "http://me:pass-word@127.0.0.1:6333"  # here
api_key = "sk-very-secret-123456"

# about models
[models]
planner = "p"

[mcp.tickets]
when = "tickets"
command = ["tickets-mcp", "--api-key", "abcdef123456"]
"""
SECRETS = ("pass-word", "sk-very-secret-123456", "abcdef123456", "hush", "tokenvalue")


@pytest.fixture
def own(orch: Orch) -> Path:
    return orch.home / "orch.toml"


def listed(orch: Orch, *args: str, **env: str) -> dict[str, dict[str, Any]]:
    rows: Any = orch("config", "list", "--json", *args, **env).envelope
    return {row["name"]: row for row in rows}


def editor(folder: Path, *texts: str) -> str:
    """An editor that saves these texts, one each time, and none when they are used up."""
    for n, text in enumerate(texts):
        (folder / f"{n}.txt").write_text(text)
    script = folder / "editor.py"
    script.write_text(
        "import pathlib, sys\n"
        f"left = sorted(pathlib.Path({str(folder)!r}).glob('[0-9].txt'))\n"
        "if left:\n"
        "    pathlib.Path(sys.argv[1]).write_text(left[0].read_text())\n"
        "    left[0].unlink()\n"
    )
    return shlex.join([sys.executable, str(script)])


def test_each_setting_has_its_origin(orch: Orch, own: Path) -> None:
    own.write_text(MINE)
    place = orch.workspace / "orch.toml"
    place.write_text("max_steps = 3\nnetwork = ['example.org']")
    (own.parent / "mcp.json").write_text('{"mcpServers": {"other": {"command": "other-mcp"}}}')
    env = {"ORCH_MODELS__AGENT": "a", "ORCH_MODELS__PLANNER": "", "ORCH_MAX_CALLS": "7"}
    found = listed(orch, **env, PREFECT_API_URL="http://u:hush@h:1/api")
    origins = {name: (row["value"], row["origin"], row["source"]) for name, row in found.items()}
    assert origins["max_calls"] == (7, "environment", "ORCH_MAX_CALLS")
    assert origins["models.agent"] == ("a", "environment", "ORCH_MODELS__AGENT")
    assert origins["prefect_api_url"][1:] == ("environment", "PREFECT_API_URL")
    assert origins["home"][1:] == ("environment", "ORCH_HOME")
    assert origins["max_steps"] == (3, "workspace", str(place))
    assert origins["models.planner"] == ("p", "user", str(own))
    assert origins["mcp.tickets"][1:] == ("user", str(own))
    assert origins["mcp.other"][1:] == ("user", str(own.parent / "mcp.json"))
    assert origins["approve"][1] == "user"
    assert "network" not in found
    assert "max_parallel" not in found
    assert not set(SECRETS) & set(str(found))
    every = listed(orch, "--all")
    assert (every["max_parallel"]["value"], every["max_parallel"]["origin"]) == (4, "default")
    assert every["max_runs"]["origin"] == "default"


def test_a_server_of_another_file_has_that_file_as_its_origin(orch: Orch, own: Path) -> None:
    (orch.workspace / ".mcp.json").write_text(
        '{"mcpServers": {"x": {"command": "x", "env": {"A_KEY": "hush"}}}}'
    )
    orch.trust()
    row = listed(orch)["mcp.x"]
    assert (row["origin"], row["source"]) == ("workspace", str(orch.workspace / ".mcp.json"))
    assert "hush" not in str(row)


def test_no_key_is_printed(orch: Orch, own: Path) -> None:
    own.write_text(MINE + '\n[notify]\nurls = ["ntfys://u:tokenvalue@example.org/x"]\n')
    for args in (["list"], ["list", "--all"], ["get", "memory"], ["get", "memory.api_key"], ["get", "mcp"]):
        for more in ([], ["--json"]):
            done = orch("config", *args, *more)
            assert done.code == 0
            assert [one for one in SECRETS if one in done.out + done.err] == []
    done = orch("config", "set", "memory.api_key", "-", stdin="sk-another-secret-1\n")
    assert (done.code, "another" in done.out + done.err) == (0, False)
    assert tomllib.loads(own.read_text())["memory"]["api_key"] == "sk-another-secret-1"
    done = orch("config", "set", "mcp.a", '{when = "w", url = "http://u:hush@h/"}')
    assert (done.code, "hush" in done.err) == (3, False)


def test_what_was_not_allowed_is_named(orch: Orch) -> None:
    (orch.workspace / "orch.toml").write_text("network = ['example.org']")
    done = orch("config")
    assert done.code == 0
    assert "network" in done.err
    assert "orch trust -C" in done.err


CHANGES: list[tuple[str, str, Any]] = [
    ("model", "ollama_chat/qwen3", "ollama_chat/qwen3"),
    ("max_calls", "9", 9),
    ("max_cost", "0.5", 0.5),
    ("allow_unpriced", "yes", True),
    ("models.agent", "a", "a"),
    ("models.planner", "q", "q"),
    ("memory.dense", "ollama/nomic-embed-text", "ollama/nomic-embed-text"),
    ("fallbacks", '["a", "b"]', ["a", "b"]),
    ("approve", "plan,tools", "plan,tools"),
    ("notify.bell", "true", True),
    ("parameters.planner.temperature", "0.2", 0.2),
    ("parameters.planner", '{"temperature": 0.3}', {"temperature": 0.3}),
    ('max_parallel_models."ollama_chat/qwen2.5"', "1", 1),
    ("mcp.tickets.timeout_s", "5", 5),
    ("mcp.other", '{when = "w", command = ["x"]}', {"when": "w", "command": ["x"]}),
    ("processes.count", '{when = "w", command = ["x"]}', {"when": "w", "command": ["x"]}),
    ("remember", "never", "never"),
]


@pytest.mark.parametrize("start", ["", "# mine", MINE], ids=["none", "comment", "mine"])
def test_values_are_set_and_the_rest_is_kept(orch: Orch, own: Path, start: str) -> None:
    wanted: dict[str, Any] = tomllib.loads(start)
    if start:
        own.write_text(start)
    for name, text, value in CHANGES:
        if name == "mcp.tickets.timeout_s" and "mcp" not in wanted:
            continue
        done = orch("config", "set", name, text)
        assert done.code == 0, (name, done.err)
        *above, last = name.replace('"', "").split(".", 1 if '"' in name else -1)
        here = wanted
        for part in above:
            here = here.setdefault(part, {})
        here[last] = value
        assert tomllib.loads(own.read_text()) == wanted, name
    lines = own.read_text().splitlines()
    before = [line for line in start.splitlines() if line.startswith("#")]
    assert [line for line in lines if line.startswith("#")] == before
    assert own.stat().st_mode & 0o777 == (0o644 if start else 0o600)
    if start == MINE:
        assert lines[:3] == ["# mine", "", "max_calls = 9  # few"]
        assert lines.index("[models]") - lines.index("# about models") == 1
        assert lines.index("[memory]") - lines.index("# about memory") == 1


@pytest.mark.parametrize(
    ("start", "name"),
    [
        ("models = {planner = 'p'} # c\n[memory]\nurl = 'u'\n", "models.agent"),
        ("models.planner = 'p'\n[memory]\nurl = 'u'\n", "models.agent"),
        ("[parameters.planner]\ntemperature = 0\n[x]\n", "parameters.agent.top_p"),
        ("memory.url = 'u'\n# end", "memory.dense"),
    ],
)
def test_tables_of_any_form_are_changed(orch: Orch, own: Path, start: str, name: str) -> None:
    own.write_text(start.replace("[x]\n", ""))
    assert orch("config", "set", name, "1" if "top_p" in name else "x").code == 0
    found = tomllib.loads(own.read_text())
    for part in name.split("."):
        found = found[part]
    assert found in ("x", 1)
    assert orch("config", "unset", name).code == 0
    now = tomllib.loads(own.read_text())
    now.get("parameters", {}).pop("agent", None)
    assert now == tomllib.loads(start.replace("[x]\n", ""))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("modle", "x", "model"),
        ("models.planer", "x", "models.planner"),
        ("model.x", "x", "no table"),
        ("max_calls", "many", "max_calls"),
        ("max_calls", "0", "max_calls"),
        ("fallbacks", "a", '["a", "b"]'),
        ("memory", "a", "{name ="),
        ("revise", "sometimes", "auto, always, never"),
        ("model", "http://x", "address"),
        ("home", "here", "absolute"),
        ("mcp.a", '{when = "w"}', "command"),
        ("max_cost", "null", "unset"),
        ("workspace", "/", "-C"),
    ],
)
def test_a_wrong_change_is_refused_with_its_remedy(
    orch: Orch, own: Path, name: str, text: str, said: str
) -> None:
    own.write_text(MINE)
    done = orch("config", "set", name, text)
    assert done.code in (2, 3)
    assert said in done.error
    assert own.read_text() == MINE


def test_a_wrong_file_is_mended_by_set_and_unset(orch: Orch, own: Path) -> None:
    own.write_text("max_calls = 'x' # c\nmodel = 'm'\n")
    assert orch("config", "list").code == 3
    assert orch("config", "set", "max_calls", "5").code == 0
    own.write_text(own.read_text() + "nonsense = 1\n")
    assert orch("config", "unset", "nonsense").code == 0
    assert own.read_text() == "max_calls = 5 # c\nmodel = 'm'\n"
    assert orch("config", "unset", "nonsense").code == 2


def test_what_overrides_a_change_is_named(orch: Orch) -> None:
    done = orch("config", "set", "model", "a", ORCH_MODEL="b")
    assert done.code == 0
    assert "ORCH_MODEL" in done.err
    assert orch("config", "get", "model", ORCH_MODEL="").out == "a\n"


def test_the_workspaces_file_is_never_changed(orch: Orch) -> None:
    place = orch.workspace / "orch.toml"
    place.write_text("max_steps = 3\n")
    assert orch("config", "set", "max_steps", "4").code == 0
    assert orch("config", "unset", "max_steps").code == 0
    assert place.read_text() == "max_steps = 3\n"
    assert orch("config", "path").out.strip() == str(orch.home / "orch.toml")


def test_edit_replaces_the_file_if_it_is_right(orch: Orch, own: Path, tmp_path: Path) -> None:
    own.write_text(MINE)
    done = orch("config", "edit", EDITOR=editor(tmp_path, "max_calls = 3 # new\n"))
    assert (done.code, own.read_text()) == (0, "max_calls = 3 # new\n")
    done = orch("config", "edit", EDITOR=editor(tmp_path, "max_calls = = 3"))
    assert (done.code, own.read_text()) == (3, "max_calls = 3 # new\n")
    done = orch("config", "edit", EDITOR=editor(tmp_path))
    assert (done.code, own.read_text()) == (0, "max_calls = 3 # new\n")
    own.write_text("broken = = 1")
    assert orch("config", "edit", EDITOR=editor(tmp_path, "max_calls = 4")).code == 0
    assert own.read_text() == "max_calls = 4"


@pytest.mark.parametrize(
    ("typed", "code", "text"), [("y\n", 0, "max_calls = 5"), ("n\n", 3, "max_calls = 1")]
)
def test_a_wrong_edit_is_shown_and_offered_again(
    orch: Orch, own: Path, tmp_path: Path, typed: str, code: int, text: str
) -> None:
    own.write_text("max_calls = 1")
    done = orch.at_terminal(
        "config", "edit", typed=typed, EDITOR=editor(tmp_path, "max_calls = 'x'", "max_calls = 5")
    )
    assert (done.code, own.read_text()) == (code, text)
    assert "max_calls" in done.out
