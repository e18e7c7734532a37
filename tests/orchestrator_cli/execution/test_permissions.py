"""Who is asked about domains and secrets, what the answers do, and what is masked afterwards."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator_cli import events
from orchestrator_cli.approvals.broker import ApprovalBroker
from orchestrator_cli.approvals.permissions import NotAllowed, PermissionGate, covered
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import ApprovalNeeded
from orchestrator_cli.journal.redaction import Redactor
from orchestrator_cli.plan import Subtask
from orchestrator_cli.settings import Settings
from toolsmith.errors import PermissionRefused
from toolsmith.sandbox.proxy import parse_grants
from toolsmith.spec import ToolSpec

KEY = "s3cr3t-of-the-weather"
SPEC = ToolSpec.model_validate(
    {
        "name": "weather",
        "purpose": "Say what the weather is.",
        "inputs": {},
        "output_type": "string",
        "output_description": "What the server says.",
        "network": ["api.example.org"],
        "secrets": ["WEATHER_KEY"],
        "examples": [{"title": "any", "check": "len(value) > 0"}],
    }
)


class Room:
    """An attended broker, and the permissions of a run."""

    def __init__(self, *, attended: bool = True, **settings: Any) -> None:
        self.facts: list[Any] = []
        self.masks = Redactor()
        made = Settings(**settings)
        self.broker = ApprovalBroker(self.facts.append, policy=made.approve, attended=attended)
        self.gate = PermissionGate(self.broker, made, masks=self.masks, cancellation=Cancellation())

    def of(self, kind: type[Any]) -> list[Any]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def answering(self, *decisions: str, remark: str = "") -> threading.Thread:
        """Somebody who answers the next questions so."""

        def answer() -> None:
            for decision in decisions:
                deadline = time.monotonic() + 20
                while not self.broker.open and time.monotonic() < deadline:
                    time.sleep(0.005)
                self.broker.answer(self.broker.open[0].id, decision, remark=remark)  # type: ignore[arg-type]

        thread = threading.Thread(target=answer)
        thread.start()
        return thread


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Room]:
    monkeypatch.setenv("WEATHER_KEY", KEY)
    return Room


def subtask(*domains: str, id_: str = "look") -> Subtask:
    return Subtask(id=id_, title="Look it up", kind="agent", role="coder", network=domains)


def test_a_domain_that_looks_like_another_is_asked_about_in_plain_letters(room: Callable[..., Room]) -> None:
    here = room()
    with pytest.raises(ApprovalNeeded):
        here.gate.network_for(subtask(".g\u0456thub.com:8443"))
    (question,) = here.broker.open
    assert ".xn--gthub-n2e.com:8443" in question.question
    assert question.question.isascii()
    assert ToolSpec.model_validate(SPEC.model_dump() | {"network": ["g\u0456thub.com"]}).network[0].isascii()


def test_a_subtask_waits_at_once_and_goes_on_when_the_answer_is_there(room: Callable[..., Room]) -> None:
    here = room()
    with pytest.raises(ApprovalNeeded) as caught:
        here.gate.network_for(subtask("api.example.org"))
    (question,) = here.broker.open
    assert caught.value.approvals == (question.id,)
    here.broker.answer(question.id, "yes")
    assert here.gate.network_for(subtask("api.example.org")) == ("api.example.org",)
    assert here.gate.network_for(subtask("api.example.org", id_="look[1]")) == ("api.example.org",)
    assert len(here.of(events.ApprovalAsked)) == 1


def test_a_no_is_the_reason_why_a_subtask_fails(room: Callable[..., Room]) -> None:
    here = room()
    with pytest.raises(ApprovalNeeded):
        here.gate.network_for(subtask("a.example.org", "b.example.org"))
    here.broker.answer(here.broker.open[0].id, "no", remark="not today")
    reason = "the user did not allow a.example.org and b.example.org: not today"
    with pytest.raises(NotAllowed, match=reason.replace(".", r"\.")):
        here.gate.network_for(subtask("a.example.org", "b.example.org"))


def test_a_tool_is_given_the_value_after_two_times_yes(room: Callable[..., Room]) -> None:
    here = room()
    person = here.answering("yes", "yes")
    given = here.gate.permit_tool(SPEC)
    person.join()
    assert (given.network, given.secrets) == (("api.example.org",), {"WEATHER_KEY": KEY})
    assert here.masks(f"it is {KEY}") == "it is [secret WEATHER_KEY]"
    assert "It can send it to api.example.org." in here.of(events.ApprovalAsked)[1].details


def test_an_answer_counts_for_the_same_wish_in_other_words(room: Callable[..., Room]) -> None:
    here = room(secrets=("WEATHER_KEY",))
    person = here.answering("yes")
    here.gate.permit_tool(SPEC)
    person.join()
    here.gate.permit_tool(SPEC.model_copy(update={"purpose": "Tell the weather."}))
    wider = SPEC.model_copy(update={"network": ("api.example.org", "b.example.org")})
    person = here.answering("no")
    with pytest.raises(PermissionRefused):
        here.gate.permit_tool(wider)
    person.join()


@pytest.mark.parametrize(
    ("decisions", "refused"), [(("no",), "api.example.org"), (("yes", "no"), "WEATHER_KEY")]
)
def test_a_no_refuses_the_tool_and_its_secret_stays_where_it_was(
    room: Callable[..., Room], decisions: tuple[str, ...], refused: str
) -> None:
    here = room()
    person = here.answering(*decisions)
    with pytest.raises(PermissionRefused, match=f"the user did not allow {refused}"):
        here.gate.permit_tool(SPEC)
    person.join()
    assert not here.masks.active


def test_what_the_settings_allow_is_recorded_once_and_not_asked(room: Callable[..., Room]) -> None:
    here = room(attended=False, network=("example.org",), secrets=("WEATHER_KEY",))
    assert here.gate.permit_tool(SPEC) == here.gate.permit_tool(SPEC)
    assert [given.by for given in here.of(events.ApprovalGiven)] == ["settings", "settings"]


def test_a_secret_that_cannot_be_masked_is_refused(
    room: Callable[..., Room], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEATHER_KEY", "12345")
    with pytest.raises(PermissionRefused, match="too short to be masked"):
        room().gate.permit_tool(SPEC)


@pytest.mark.parametrize(
    ("grant", "domains", "is_covered"),
    [
        ("api.example.org", ["example.org"], True),
        (".example.org", ["example.org"], True),
        ("example.org", ["EXAMPLE.org"], True),
        ("example.org", ["api.example.org"], False),
        (".api.example.org", ["example.org"], True),
        ("notexample.org", ["example.org"], False),
        ("api.example.org:8443", ["example.org"], False),
        ("api.example.org", [], False),
    ],
)
def test_settings_cover_a_domain_with_those_below_it(
    grant: str, domains: list[str], is_covered: bool
) -> None:
    assert covered(parse_grants([grant])[0], domains) is is_covered


def test_masks_reach_into_facts_and_leave_fixed_words() -> None:
    masks = Redactor()
    fact = events.ToolCalled(
        subtask="a", attempt=1, tool="t", arguments={"keys": [{"completed": KEY}]}, outcome=KEY, ok=True
    )
    assert masks(fact) is fact
    masks.add("WEATHER_KEY", KEY)
    masks.add("WORD", "ToolCalled")
    masked = masks(fact)
    assert masked.kind == "ToolCalled"
    assert masked.arguments == {"keys": [{"completed": "[secret WEATHER_KEY]"}]}
    assert masked.outcome == "[secret WEATHER_KEY]"
