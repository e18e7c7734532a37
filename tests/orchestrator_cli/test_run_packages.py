"""Packages of tools in a run: asked of the user, installed once, used by the tool alone, and lost again."""

import html
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import wheels
from command import Done, Orch
from endpoint import Endpoint
from scripted_model import Cast, coder, patch, plan, tool_call
from scripted_model import code as step

from orchestrator_cli import events
from orchestrator_cli.approvals.broker import ApprovalBroker
from orchestrator_cli.approvals.permissions import PermissionGate
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.environment import package_index
from orchestrator_cli.errors import ApprovalNeeded
from orchestrator_cli.journal.redaction import Redactor
from orchestrator_cli.settings import Settings
from toolsmith.errors import PackagesUnavailable, PermissionRefused
from toolsmith.spec import ToolSpec

REPLIES = (
    f"```json\n{json.dumps(wheels.SHOUTING)}\n```",
    f"```json\n{json.dumps(wheels.SHOUTING_CASES)}\n```",
    f"```python\n{wheels.SHOUTING_CODE}```",
)
NEW = [{"name": "shout_text", "purpose": "shouts a text with the package tinymark"}]
LOCKED = "tinydep 1.0, tinymark 1.2"


# --- asking


class Room:
    """A broker, and the permissions of a run with these settings."""

    def __init__(self, home: Path, **settings: Any) -> None:
        self.facts: list[Any] = []
        made = Settings(home=home, **settings)
        self.broker = ApprovalBroker(self.facts.append, policy=made.approve, yes="flag" if made.yes else "")
        self.gate = PermissionGate(self.broker, made, masks=Redactor(), cancellation=Cancellation())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheels.tiny(tmp_path_factory.mktemp("files"))


@pytest.fixture
def index(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The index of the tests, as this process's own environment names it for pip."""
    with wheels.serving(files) as address:
        for name, value in wheels.environment(tmp_path, PIP_INDEX_URL=address).items():
            if name not in ("PATH", "HOME"):
                monkeypatch.setenv(name, value)
        for name in (
            "UV_INDEX_URL",
            "UV_DEFAULT_INDEX",
            "UV_FIND_LINKS",
            "PIP_FIND_LINKS",
            "PIP_EXTRA_INDEX_URL",
        ):
            monkeypatch.delenv(name, raising=False)
        yield address


def test_each_package_is_asked_about_once_whatever_the_purpose_is_called(tmp_path: Path, index: str) -> None:
    here = Room(tmp_path / "home")
    spec = ToolSpec.model_validate(wheels.SHOUTING)
    for each in (spec, spec.model_copy(update={"purpose": "Shout."})):
        with pytest.raises(ApprovalNeeded):
            here.gate.permit_tool(each)
    (asked,) = (fact for fact in here.facts if isinstance(fact, events.ApprovalAsked))
    assert (asked.what, asked.subject) == ("packages", "shout_text")
    assert asked.question == (
        "The tool `shout_text` wants the package tinymark>=1.0 of the package index. "
        "It says of itself: Shout a text, with the package tinymark"
    )
    assert not (tmp_path / "home" / "tools").exists(), "nothing is installed before it is allowed"
    here.broker.answer(asked.id, "no", remark="not that one")
    with pytest.raises(PermissionRefused, match=r"did not allow tinymark>=1\.0.*not that one"):
        here.gate.permit_tool(spec)


def test_what_the_settings_allow_by_name_is_installed_for_the_tool_alone(tmp_path: Path, index: str) -> None:
    here = Room(tmp_path / "home", packages=("TinyMark",))
    spec = ToolSpec.model_validate(wheels.SHOUTING)
    given = here.gate.permit_tool(spec)
    assert given.folder is not None
    assert given.folder.is_relative_to(tmp_path / "home" / "tools" / ".packages")
    assert given.lock.versions == ("tinydep 1.0", "tinymark 1.2")
    assert here.gate.permit_tool(spec, lock=given.lock) == given
    assert [fact.by for fact in here.facts if isinstance(fact, events.ApprovalGiven)] == ["settings"]
    other = spec.model_copy(update={"name": "other", "packages": ("tinydep",)})
    with pytest.raises(ApprovalNeeded):
        here.gate.permit_tool(other)


def test_an_installation_ends_with_what_it_is_for(tmp_path: Path, index: str) -> None:
    class Stopped(Exception):
        pass

    here, cancellation = Room(tmp_path / "home", yes=True), Cancellation()
    cancellation.cancel(Stopped())
    with pytest.raises(Stopped):
        here.gate.permit_tool(ToolSpec.model_validate(wheels.SHOUTING), cancellation)


def test_the_index_is_the_one_that_the_user_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "UV_DEFAULT_INDEX",
        "UV_INDEX_URL",
        "UV_INDEX",
        "UV_EXTRA_INDEX_URL",
        "UV_FIND_LINKS",
        "SSL_CERT_FILE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PIP_CERT", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", " http://127.0.0.1:2/simple\n http://127.0.0.1:3/simple ")
    monkeypatch.setenv("PIP_FIND_LINKS", "/one /two")
    assert package_index() == {
        "UV_DEFAULT_INDEX": "http://127.0.0.1:1/simple",
        "UV_EXTRA_INDEX_URL": "http://127.0.0.1:2/simple http://127.0.0.1:3/simple",
        "UV_FIND_LINKS": "/one,/two",
    }
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:4/simple")
    monkeypatch.setenv("UV_FIND_LINKS", "/three")
    assert package_index().keys() == {"UV_EXTRA_INDEX_URL"}


# --- whole runs


@dataclass(frozen=True)
class Shop:
    """A user, and the index that their runs see."""

    orch: Orch
    endpoint: Endpoint
    environment: dict[str, str]

    def run(self, cast: Cast, **environment: str) -> Done:
        self.endpoint.reply = cast
        return self.orch("ask", "-q", "Shout.", **{**self.environment, **environment})

    def value(self, subtask: str) -> Any:
        rows = self.orch.events("SubtaskFinished")
        return next(row["result"]["value"] for row in rows if row["subtask"] == subtask)


@pytest.fixture
def shop(orch: Orch, endpoint: Endpoint, files: Path, tmp_path: Path) -> Iterator[Shop]:
    with wheels.serving(files) as address:
        environment = wheels.environment(tmp_path / "uv", UV_DEFAULT_INDEX=address)
        del environment["PATH"], environment["HOME"]
        yield Shop(orch, endpoint, environment)


PRY = """def tried(call):
    try:
        return call()
    except Exception as exc:
        return type(exc).__name__
final_answer([shout_text(text="b"), tried(lambda: __import__("tinymark").__name__)])"""


def test_a_tool_has_its_packages_and_loses_them_without_harm_to_the_run(shop: Shop) -> None:
    # Built, and used by a subtask and by an agent, whose own code has nothing of it.
    first = Cast(
        planner=[
            plan(
                tool_call("say", "shout_text", text="a"),
                coder("pry", ["say"], tools=["shout_text"]),
                new_tools=NEW,
            )
        ],
        toolsmith=REPLIES,
        agents={"Do pry": [step(PRY)]},
    )
    done = shop.run(first, ORCH_PACKAGES='["tinymark"]')
    assert done.code == 0, done.err
    assert shop.value("say") == "A!"
    assert shop.value("pry") == ["B!", "ModuleNotFoundError"]
    (asked,) = shop.orch.events("ApprovalAsked")
    assert (asked["what"], asked["subject"]) == ("packages", "shout_text")
    assert [row["by"] for row in shop.orch.events("ApprovalGiven")] == ["settings"]
    facts = f"packages: tinymark>=1.0 (installed: {LOCKED})"
    assert shop.orch.events("ToolBuilt")[0]["permissions"].endswith(facts)
    assert facts in html.unescape(shop.orch.log.replace("\\", ""))
    assert "127.0.0.1" not in (shop.orch.home / "tools" / "shout_text" / "v1" / "tool.json").read_text()

    # The packages are gone, and so is the index: the planner hears of it, and the rest goes on.
    (folder,) = (path for path in (shop.orch.home / "tools" / ".packages").iterdir() if path.name != ".locks")
    shutil.rmtree(folder)
    gone = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_CACHE_DIR": str(shop.orch.home / "empty")}
    second = Cast(
        planner=[plan(tool_call("say", "shout_text", text="a"), tool_call("look", "list_files"))],
        reviser=[patch("It is shouted by code instead.", add=[coder("instead")])],
        agents={"Do instead": [step("final_answer('A!')")]},
    )
    done = shop.run(second, ORCH_PACKAGES='["tinymark"]', **gone)
    assert done.code == 0, done.err
    assert (shop.value("look"), shop.value("instead")) == ([], "A!")
    (refused,) = shop.orch.events("ToolRefused")
    assert f"its packages ({LOCKED}) cannot be installed (they are not installed)" in refused["reasons"][0]
    assert "make the package index reachable" in refused["reasons"][0]
    assert "cannot be installed" in shop.endpoint.of("reviser")[0].text

    # With the index they are made again from the lock, though there is something newer meanwhile.
    third = Cast(planner=[plan(tool_call("say", "shout_text", text="a"))])
    done = shop.run(third, ORCH_PACKAGES='["tinymark"]')
    assert done.code == 0, done.err
    assert shop.value("say") == "A!"
    assert folder.is_dir()


def test_without_a_terminal_packages_are_waited_for_and_nothing_is_installed(shop: Shop) -> None:
    cast = Cast(
        planner=[plan(tool_call("say", "shout_text", text="a"), new_tools=NEW)],
        toolsmith=(*REPLIES[:1], *REPLIES),
        reviser=[json.dumps({"decision": "stop", "reason": "it is not allowed"})],
    )
    done = shop.run(cast)
    assert done.code == 6
    assert "wants the package tinymark>=1.0 of the package index" in done.error
    assert not (shop.orch.home / "tools" / ".packages").exists()
    done = shop.orch("approve", "last", "--yes", **shop.environment)
    assert done.code == 0, done.err
    assert shop.value("say") == "A!"


def test_packages_that_cannot_be_had_refuse_the_tool_with_the_reason(shop: Shop) -> None:
    spec = json.dumps({**wheels.SHOUTING, "packages": ["tinysrc"]})
    cast = Cast(
        planner=[
            plan(tool_call("say", "shout_text", text="a"), tool_call("look", "list_files"), new_tools=NEW)
        ],
        toolsmith=[f"```json\n{spec}\n```"],
        reviser=[patch("It is shouted by code instead.", add=[coder("instead")])],
        agents={"Do instead": [step("final_answer('A!')")]},
    )
    done = shop.run(cast, ORCH_YES="true")
    assert done.code == 0, done.err
    (refused,) = shop.orch.events("ToolRefused")
    assert "only wheels are installed" in refused["reasons"][0]
    assert "://" not in refused["reasons"][0]


SAY = 'from tinymark import shout\nfinal_answer(shout("a"))'


def test_a_coder_has_the_packages_that_its_subtask_names_and_no_other_has(shop: Shop) -> None:
    cast = Cast(
        planner=[
            plan(
                coder("say", packages=["TinyMark >= 1.0"], tools=[]), coder("pry", ["say"], on_failure="skip")
            )
        ],
        agents={
            "Do say": [step(SAY)],
            "Do pry": [step("import tinymark"), step("give_up('it needs tinymark')")],
        },
    )
    done = shop.run(cast)
    assert done.code == 6, done.err
    (asked,) = shop.orch.events("ApprovalAsked")
    assert (asked["what"], asked["subject"]) == ("packages", "say")
    assert not (shop.orch.home / "tools" / ".packages").exists()
    done = shop.orch("approve", "last", "--yes", **shop.environment)
    assert done.code == 0, done.err
    assert shop.value("say") == "A!"
    first, *others = shop.endpoint.of("agent")
    assert "tinymark 1.2" in first.text
    assert not any("tinymark 1.2" in other.text for other in others)
    assert "No module named 'tinymark'" in others[-1].text
    assert [row for row in shop.orch.events("Noticed") if "tinydep 1.0" in row["message"]]


def test_a_coder_that_lacks_a_package_has_the_plan_ask_for_it(shop: Shop) -> None:
    cast = Cast(
        planner=[plan(coder("say"))],
        reviser=[patch("It needs tinymark.", add=[coder("again", packages=["tinymark"])])],
        agents={"Do say": [step("give_up('it needs the package tinymark')")], "Do again": [step(SAY)]},
    )
    done = shop.run(cast, ORCH_PACKAGES='["tinymark"]')
    assert done.code == 0, done.err
    assert shop.value("again") == "A!"
    assert "it needs the package tinymark" in shop.endpoint.of("reviser")[0].text


@pytest.mark.parametrize("wanted", [["tinysrc"], ["tinynone"]])
def test_packages_that_cannot_be_had_fail_a_subtask_with_the_reason(shop: Shop, wanted: list[str]) -> None:
    cast = Cast(
        planner=[plan(coder("say", packages=wanted))],
        reviser=[patch("It is shouted without.", add=[coder("instead")])],
        agents={"Do instead": [step("final_answer('A!')")]},
    )
    done = shop.run(cast, ORCH_YES="true")
    assert done.code == 0, done.err
    (failed,) = shop.orch.events("SubtaskFailed")
    assert f"{wanted[0]} cannot be had" in failed["reason"]
    assert "://" not in failed["reason"]


def test_unavailable_packages_name_only_their_reason() -> None:
    assert str(PackagesUnavailable("gone")) == "gone"
