"""Calls with effects: what becomes of one follows from what the journal has of its key."""

from typing import Any

import pytest

from orchestrator_cli.approvals.broker import ApprovalBroker
from orchestrator_cli.approvals.effects import (
    CallDecision,
    EffectCall,
    EffectFailed,
    EffectOutcome,
    EffectRefused,
    Effects,
    Policy,
    decide,
    key_of,
)
from orchestrator_cli.errors import ApprovalNeeded
from orchestrator_cli.events import EffectBegun, EffectEnded, Fact

MAIL = EffectCall("send", 1, "process mail", {"to": "ann"})
DONE = EffectEnded(key="k", ok=True, outcome="sent")
WITH_FILES = DONE.model_copy(update={"files": ("receipt.txt",)})
FAILED = EffectEnded(key="k", ok=False, outcome="no such address")


@pytest.mark.parametrize(
    ("begun", "ended", "policy", "verdict"),
    [
        (False, None, "ask", "do"),
        (True, FAILED, "ask", "do"),
        (True, FAILED, "skip", "do"),
        (True, DONE, "ask", "take"),
        (True, DONE, "retry", "take"),
        (True, None, "ask", "ask"),
        (True, None, "retry", "do"),
        (True, None, "skip", "leave"),
        (True, WITH_FILES, "ask", "ask"),
        (True, WITH_FILES, "retry", "do"),
        (True, WITH_FILES, "skip", "take"),
        (False, WITH_FILES, "ask", "ask"),
    ],
)
def test_a_call_is_made_taken_asked_about_or_left(
    begun: bool, ended: EffectEnded | None, policy: Policy, verdict: CallDecision
) -> None:
    assert decide(begun, ended, policy) == verdict


def test_a_key_is_that_of_the_piece_of_work_and_not_of_the_attempt() -> None:
    key = key_of("run", MAIL)
    again = EffectCall("send", 7, "process mail", {"to": "ann"})
    others = [
        EffectCall("remind", 1, "process mail", {"to": "ann"}),
        EffectCall("send", 1, "process post", {"to": "ann"}),
        EffectCall("send", 1, "process mail", {"to": "bob"}),
    ]
    assert key_of("run", again) == key
    assert key not in {key_of("run", call) for call in others} | {key_of("other run", MAIL)}


class Receiver:
    """Something outside that counts what reaches it."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.error: Exception | None = None

    def __call__(self, key: str) -> EffectOutcome:
        self.keys.append(key)
        if self.error is not None:
            raise self.error
        return EffectOutcome(f"sent {len(self.keys)}")


class Office:
    """One run's desk, journal and receiver."""

    def __init__(self, policy: Policy = "ask", before: tuple[Any, ...] = ()) -> None:
        self.facts: list[Fact] = []
        self.broker = ApprovalBroker(self.facts.append, policy=())
        self.receiver = Receiver()
        self.effects = Effects(
            "run", broker=self.broker, emit=self.facts.append, policy=policy, before=before
        )

    def send(self, call: EffectCall = MAIL) -> Any:
        return self.effects.once(call, self.receiver).value

    def lose(self, call: EffectCall = MAIL) -> None:
        """Make a call whose end is unknown."""
        self.receiver.error = TimeoutError("took too long")
        with pytest.raises(TimeoutError):
            self.send(call)
        self.receiver.error = None

    def answer(self, decision: Any) -> None:
        self.broker.answer(self.broker.open[0].id, decision)

    @property
    def journal(self) -> list[str]:
        return [fact.kind for fact in self.facts]

    def past(self) -> tuple[Any, ...]:
        """What another process finds in the journal."""
        return tuple(fact for fact in self.facts if isinstance(fact, EffectBegun | EffectEnded))


def test_what_was_done_is_taken_from_the_journal_also_in_another_process() -> None:
    office = Office()
    assert (office.send(), office.send()) == ("sent 1", "sent 1")
    assert office.journal == ["EffectBegun", "EffectEnded"]
    later = Office(before=office.past())
    assert (later.send(), later.receiver.keys) == ("sent 1", [])


def test_what_said_that_it_failed_is_made_again_with_the_same_key() -> None:
    office = Office()
    office.receiver.error = EffectFailed("no such address")
    with pytest.raises(EffectFailed):
        office.send()
    office.receiver.error = None
    assert office.send() == "sent 2"
    assert len(set(office.receiver.keys)) == 1


def test_call_of_unknown_end_is_asked_about_each_time() -> None:
    office = Office()
    for expected in (1, 2):
        office.lose()
        for _ in range(2):
            with pytest.raises(ApprovalNeeded):
                office.send()
        assert len(office.receiver.keys) == expected
        assert "it is not known whether it was done. Do it again?" in office.broker.open[0].question
        office.answer("yes")
    assert office.send() == "sent 3"
    assert len(set(office.receiver.keys)) == 1


def test_where_the_answer_is_no_it_is_not_made_and_counts_as_failed() -> None:
    office = Office()
    office.lose()
    with pytest.raises(ApprovalNeeded):
        office.send()
    office.answer("no")
    with pytest.raises(EffectRefused, match="the user does not want it done again"):
        office.send()
    assert len(office.receiver.keys) == 1


def test_another_process_asks_about_what_the_one_before_had_begun() -> None:
    office = Office()
    office.lose()
    later = Office(before=office.past())
    with pytest.raises(ApprovalNeeded):
        later.send()
    assert later.receiver.keys == []


def test_a_subtask_of_another_name_does_not_repeat_a_call_of_unknown_end() -> None:
    office, again = Office(), EffectCall("send-again", 1, MAIL.what, MAIL.inputs)
    office.lose()
    with pytest.raises(ApprovalNeeded):
        office.send(again)
    office.answer("yes")
    assert office.send(again) == "sent 2"
    assert len(set(office.receiver.keys)) == 1
    assert office.send(EffectCall("send-twice", 1, MAIL.what, MAIL.inputs)) == "sent 3"


def test_the_settings_may_say_that_it_is_left_or_repeated() -> None:
    for policy, calls in (("skip", 1), ("retry", 2)):
        office = Office(policy)  # type: ignore[arg-type]
        office.lose()
        if policy == "skip":
            with pytest.raises(EffectRefused):
                office.send()
        else:
            office.send()
        assert len(office.receiver.keys) == calls
        assert office.broker.open == ()


def test_where_files_were_lost_a_person_may_go_on_without_them() -> None:
    office = Office()
    office.effects.once(MAIL, lambda _: EffectOutcome("sent", ("receipt.txt",)))
    with pytest.raises(ApprovalNeeded):
        office.send()
    assert "receipt.txt, which it wrote, are lost" in office.broker.open[0].question
    office.answer("no")
    assert (office.send(), office.receiver.keys) == ("sent", [])
