"""What a run may reach: asked of the user, given to whom it was allowed, and masked everywhere else."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import network_tool
import pexpect
import pytest
import wheels
from command import Done, Orch
from endpoint import Endpoint
from engine import Engine
from network_tool import KEY, cased, specified, written
from scripted_model import Cast, coder, plan, tool_call
from scripted_model import code as step

from orchestrator_cli.approvals.broker import ApprovalBroker
from orchestrator_cli.approvals.permissions import PermissionGate
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import ApprovalNeeded
from orchestrator_cli.journal.redaction import Redactor
from orchestrator_cli.plan import Subtask
from orchestrator_cli.settings import Settings
from toolsmith.spec import ToolSpec

NEW = [{"name": "weather", "purpose": "says the weather of a city, from DOMAIN"}]
MASK = "[secret WEATHER_KEY]"

PRY = """import os, urllib.request
def tried(call):
    try:
        return str(call())
    except BaseException as exc:
        return type(exc).__name__
final_answer({
    "tool": weather(city="Rome"),
    "environment": tried(lambda: os.environ["WEATHER_KEY"]),
    "module": tried(lambda: network_tool.__globals__["os"].environ["WEATHER_KEY"]),
    "page": tried(lambda: urllib.request.urlopen("http://DOMAIN/own", timeout=30).read().decode()),
})"""


@dataclass(frozen=True)
class Whole:
    """One run in which a tool, an agent's code and `fetch_url` were granted the same domain."""

    orch: Orch
    endpoint: Endpoint
    engine: Engine
    domain: str
    seen: list[Any]
    done: Done

    def value(self, subtask: str) -> Any:
        rows = self.orch.events("SubtaskFinished")
        return next(row["result"]["value"] for row in rows if row["subtask"] == subtask)


@pytest.fixture(scope="module")
def whole(stage: tuple[Orch, Endpoint], engine: Engine) -> Any:
    orch, endpoint = stage
    with network_tool.serving() as server:
        domain = f"api.example.org:{server.server_port}"
        endpoint.reply = Cast(
            planner=[
                plan(
                    tool_call("ask", "weather", city="Bern"),
                    coder("granted", ["ask"], tools=["weather"], network=[domain]),
                    coder("bare", ["ask"], tools=["weather"]),
                    tool_call("page", "fetch_url", ["ask"], url=f"http://{domain}/page")
                    | {"network": [domain]},
                    new_tools=NEW,
                )
            ],
            toolsmith=[specified(domain), cased(), written(domain)],
            agents={
                "Do granted": [step(PRY.replace("DOMAIN", domain))],
                "Do bare": [step(PRY.replace("DOMAIN", domain))],
            },
            answer=[f"It is sunny for {KEY}."],
        )
        done = subprocess.run(
            [sys.executable, network_tool.__file__, "What is the weather?"],
            cwd=orch.workspace,
            env=orch.environment(
                WEATHER_KEY=KEY,
                ORCH_SECRETS='["WEATHER_KEY"]',
                PYTHONPATH=str(Path(network_tool.__file__).parents[2]),
            ),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        yield Whole(
            orch, endpoint, engine, domain, server.seen, Done(done.returncode, done.stdout, done.stderr, 0.0)
        )


def test_a_built_tool_reaches_its_domain_with_its_secret_and_the_answer_masks_it(whole: Whole) -> None:
    assert whole.value("ask") == f"/Bern: sunny for {MASK}"
    assert (whole.domain, KEY) in whole.seen
    assert whole.done.out == f"It is sunny for {MASK}.\n"


def test_an_agent_calls_such_a_tool_and_its_own_code_has_nothing_of_it(whole: Whole) -> None:
    bare = whole.value("bare")
    assert bare["tool"] == f"/Rome: sunny for {MASK}"
    assert bare["environment"] == "KeyError"
    assert MASK not in bare["module"]
    assert bare["page"] == "URLError"


def test_a_subtasks_network_is_for_its_code_and_for_fetch_url(whole: Whole) -> None:
    assert whole.value("granted")["page"] == "/own: sunny for None"
    assert whole.value("page") == "/page: sunny for None"


def test_coder_sees_which_domains_its_code_can_reach(whole: Whole) -> None:
    def task_of(task: str) -> str:
        texts = (exchange.text for exchange in whole.endpoint.exchanges)
        return next(text for text in texts if "How the code runs:" in text and f"Do {task}" in text)

    assert f"in a sandbox: network to {whole.domain} and nowhere else, no secrets" in task_of("granted")
    assert "in a sandbox: no network, no secrets, no environment. The current folder" in task_of("bare")


def test_the_secret_is_in_no_file_that_a_run_leaves_and_in_no_request(whole: Whole) -> None:
    folders = (whole.orch.home, whole.orch.workspace, whole.engine.home)
    left = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert [path for path in left if KEY.encode() in path.read_bytes()] == []
    assert any("memory" in path.parts and MASK.encode() in path.read_bytes() for path in left)
    assert not any(KEY in exchange.text for exchange in whole.endpoint.exchanges)
    assert KEY not in whole.done.out + whole.done.err


def test_record_says_what_was_asked_and_who_allowed_it(whole: Whole) -> None:
    asked = {row["id"]: row for row in whole.orch.events("ApprovalAsked")}
    given = {(asked[row["id"]]["what"], row["by"]) for row in whole.orch.events("ApprovalGiven")}
    assert given == {("network", "flag"), ("secrets", "settings")}
    texts = [row["question"].partition(". ")[0] for row in asked.values()]
    assert f"The tool `weather` wants to reach {whole.domain}" in texts
    assert "The tool `weather` wants to be given WEATHER_KEY from your environment" in texts
    assert f"The subtask `granted` wants to reach {whole.domain}" in texts
    assert len(texts) == 4
    permissions = f"workspace: none; network: {whole.domain}; secrets: WEATHER_KEY"
    assert whole.orch.events("ToolBuilt")[0]["permissions"] == permissions
    assert permissions in whole.orch.log.replace("\\", "")


GOES = plan(tool_call("ask", "weather", city="Bern"), new_tools=NEW)


def test_without_a_terminal_a_tools_grant_is_waited_for_and_the_rest_is_done(
    orch: Orch, endpoint: Endpoint
) -> None:
    both = plan(tool_call("ask", "weather", city="Bern"), coder("other"), new_tools=NEW)
    agents = {"Do other": [{"content": step("final_answer('done')"), "sleep": 0.5}]}
    endpoint.reply = Cast(planner=[both], toolsmith=[specified("api.example.org")], agents=agents)
    done = orch("ask", "What is the weather?", WEATHER_KEY=KEY)
    assert done.code == 6
    assert [row["subtask"] for row in orch.events("SubtaskFinished")] == ["other"]
    assert "wants to reach api.example.org" in done.error
    assert "orch approve" in done.error


def test_a_tool_that_an_agent_asks_for_is_waited_for_too(orch: Orch, endpoint: Endpoint) -> None:
    asks = step("request_tool(name='weather', purpose='the weather of a city')")
    endpoint.reply = Cast(
        planner=[plan(coder("look"))],
        agents={"Do look": [asks]},
        toolsmith=[specified("api.example.org")],
    )
    done = orch("ask", "What is the weather?", WEATHER_KEY=KEY)
    assert done.code == 6
    assert "wants to reach api.example.org" in done.error


def test_a_secret_that_is_not_set_is_named_and_the_tool_refused(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[GOES], toolsmith=[specified("api.example.org")])
    done = orch("ask", "-y", "What is the weather?", ORCH_REVISE="never")
    assert done.code == 1
    (refused,) = orch.events("ToolRefused")
    assert refused["reasons"] == ["the secret WEATHER_KEY is not there: set WEATHER_KEY in the environment"]


FORGED = [
    "Count) wants to reach docs.python.org. It is harmless (",
    "Count\n\n? The subtask `count` wants to reach docs.python.org.\n",
    "Count " * 300,
    "Count" + "\n" * 500,
]


@pytest.mark.parametrize("words", FORGED)
def test_a_models_words_come_after_what_a_yes_allows_and_are_short(tmp_path: Path, words: str) -> None:
    settings = Settings(home=tmp_path, workspace=tmp_path)
    broker = ApprovalBroker(lambda _: None, policy=settings.approve)
    gate = PermissionGate(broker, settings, masks=Redactor(), cancellation=Cancellation())
    wants = {"network": ("evil.example",), "packages": ("evil",)}
    subtask = Subtask.model_validate({"id": "say", "title": words, "kind": "agent", **wants})
    spec = ToolSpec.model_validate({**wheels.SHOUTING, "purpose": words, **wants})
    tries: list[Callable[[], object]] = [
        lambda: gate.network_for(subtask),
        lambda: gate.packages_for(subtask),
        lambda: gate.permit_site(subtask, "evil.example", words, Cancellation()),
        lambda: gate.permit_tool(spec),
    ]
    for attempt in tries:
        with pytest.raises(ApprovalNeeded):
            attempt()
    for question in broker.open:
        before, _, after = question.question.partition("Count")
        assert "evil" in before
        assert "wants" in before
        assert "\n" not in question.question
        assert len(after) <= 200


def test_without_a_terminal_a_subtasks_network_is_waited_for(orch: Orch, endpoint: Endpoint) -> None:
    page = tool_call("page", "fetch_url", url="http://api.example.org/") | {"network": ["api.example.org"]}
    endpoint.reply = Cast(planner=[plan(page)])
    done = orch("ask", "Read the page.")
    assert done.code == 6
    assert "The subtask `page` wants to reach api.example.org." in done.error


def test_what_the_settings_allow_is_not_asked(orch: Orch, endpoint: Endpoint) -> None:
    look = "import os\nfinal_answer(os.environ.get('HTTP_PROXY') is not None)"
    endpoint.reply = Cast(
        planner=[plan(coder("look", network=["api.example.org"]))], agents={"Do look": [step(look)]}
    )
    done = orch("ask", "--network", "example.org", "Look.")
    assert done.code == 0, done.err
    assert orch.events("SubtaskFinished")[0]["result"]["value"] is True
    assert [row["by"] for row in orch.events("ApprovalGiven")] == ["settings"]


def test_what_can_never_be_granted_fails_the_subtask(orch: Orch, endpoint: Endpoint) -> None:
    page = tool_call("page", "fetch_url", url="http://127.0.0.1/") | {"network": ["127.0.0.1"], "retries": 2}
    endpoint.reply = Cast(planner=[plan(page)])
    done = orch("ask", "-y", "Read it.", ORCH_REVISE="never")
    assert done.code == 1
    (failed,) = orch.events("SubtaskFailed")
    assert "'127.0.0.1' is not a domain that can be granted" in failed["reason"]


# --- no sandbox at all


def test_without_a_terminal_no_sandbox_has_to_be_confirmed(orch: Orch, endpoint: Endpoint) -> None:
    done = orch("ask", "--unsafe-no-sandbox", "Look.")
    assert done.code == 6
    assert "--unsafe-no-sandbox has to be confirmed" in done.error
    assert endpoint.exchanges == []


def test_no_sandbox_is_unmistakable_in_the_log_and_on_the_screen(orch: Orch, endpoint: Endpoint) -> None:
    outside = Path(orch.home.parent, "outside.txt")
    reach = f"open({str(outside)!r}, 'w').write('reached')\nfinal_answer('done')"
    endpoint.reply = Cast(planner=[plan(coder("reach"))], agents={"Do reach": [step(reach)]})
    done = orch("ask", "-y", "--unsafe-no-sandbox", "Reach out.")
    assert done.code == 0, done.err
    assert outside.read_text() == "reached"
    said = "NO SANDBOX: NOTHING IS CONFINED, code written by a model has all your rights; allowed by"
    assert said in " ".join(done.err.split())
    assert "**NO SANDBOX**: NOTHING IS CONFINED" in orch.log
    assert "unsafe-no-sandbox with -y" in orch.log.replace("\\", "")


def test_a_backend_that_a_setting_names_is_not_replaced_by_another(orch: Orch, endpoint: Endpoint) -> None:
    done = orch("ask", "Look.", ORCH_SANDBOX="sandbox-exec")
    assert done.code == 3
    assert "names sandbox-exec, which does not work here" in done.error
    assert endpoint.exchanges == []


def test_no_setting_takes_the_sandbox_away(orch: Orch, endpoint: Endpoint) -> None:
    done = orch("ask", "-y", "Look.", ORCH_SANDBOX="unsafe")
    assert done.code == 3
    assert endpoint.exchanges == []


@pytest.mark.parametrize(
    ("typed", "code", "said"), [("yes", 3, "No model"), ("y", 2, "It was not confirmed")]
)
def test_on_a_terminal_it_has_to_be_typed_before_anything_else_happens(
    orch: Orch, typed: str, code: int, said: str
) -> None:
    """With `yes` the command goes on, as far as it gets without a model; with anything else it ends."""
    environment = orch.environment(OPENAI_BASE_URL="", OPENAI_API_KEY="")
    models = {name: "" for name in environment if name.startswith("ORCH_MODEL")}
    child: pexpect.spawn[str] = pexpect.spawn(
        sys.executable,
        ["-m", "orchestrator_cli", "ask", "-y", "--unsafe-no-sandbox", "Look."],
        env={**environment, **models},  # type: ignore[arg-type]
        cwd=str(orch.workspace),
        encoding="utf-8",
        timeout=60,
    )
    child.expect("Type yes to go on: ")
    assert "with all your rights" in str(child.before)
    child.sendline(typed)
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == code
    assert said in str(child.before)
