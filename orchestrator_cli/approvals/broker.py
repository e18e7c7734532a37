"""Where the questions of a run meet the answers of a person.

A question is asked once in a run: its id follows from what it says, so an answer is found again
after the process was killed, and by whoever asks the same later. The broker neither shows nor
reads anything: questions are events, and answers come from whoever can give them (a terminal,
another process, the journal of a run that goes on).

Who asks either waits (`ask`), or is told later (`post`). Where nobody is there to answer, `ask`
raises `ApprovalNeeded`, so that the run can stop and be resumed when somebody has.

Events are emitted while the broker is locked, so a view must not call the broker while it is told
an event; it leaves that to a thread of its own.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Literal

import jsonschema
from pydantic import Field, JsonValue

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import ApprovalNeeded, UsageError
from orchestrator_cli.events import ApprovalAsked, ApprovalGiven, Asked, Part, Remarked
from orchestrator_cli.journal.journal import Emit
from orchestrator_cli.planning.coercion import meant

GRANTS = frozenset({"network", "secrets", "packages", "effects"})
"""What stands in the record also where the user has said beforehand that it need not be asked."""
ALWAYS = frozenset({"subtask", "question"})
"""What the plan itself wants a person for, whatever the policy is."""

Told = Callable[[ApprovalGiven], None]


class Question(Part):
    what: Asked
    subject: str
    """The subtask, tool or plan version that it is about."""
    question: str
    details: str = ""
    result: dict[str, JsonValue] | None = None
    """The JSON Schema of the answer, of a `question` that has one."""

    sense: str = Field(default="", exclude=True)
    """What makes the question the same where a model may put its words another way the next time."""

    @property
    def id(self) -> str:
        words = [self.sense] if self.sense else [self.question, self.details]
        told = json.dumps([self.what, self.subject, *words])
        return hashlib.sha256(told.encode()).hexdigest()[:8]


class UserReply(Part):
    """What a person said to a question, before it is known whether that fits."""

    decision: Literal["yes", "no", "answered"]
    text: str = ""
    """The answer to a `question`; to a plan the YAML that they made of it."""
    remark: str = ""


class ApprovalBroker:
    """The questions and answers of one run. Every method may be called from any thread."""

    def __init__(
        self,
        emit: Emit,
        *,
        policy: Container[str],
        yes: bool = False,
        attended: bool = False,
        before: Iterable[ApprovalGiven] = (),
    ) -> None:
        """
        Args:
            policy: what a person is asked about.
            yes: whether everything that can be answered so is answered yes.
            attended: whether somebody is there who may answer while the run goes on.
            before: what was answered when the run went on in another process.
        """
        self._emit = emit
        self._policy = policy
        self._yes = yes
        self.attended = attended
        self._lock = threading.RLock()
        self._answered = threading.Condition(self._lock)
        self._given = {given.id: given for given in before}
        self._open: dict[str, Question] = {}
        self._told: dict[str, list[Told]] = {}
        self._remarks: list[str] = []
        self._preloaded: dict[str, UserReply] = {}

    # --- for those who ask

    def needs(self, what: Asked) -> bool:
        """Whether a person is asked about this kind of thing."""
        return what in ALWAYS or what in self._policy

    def ask(self, question: Question, cancellation: Cancellation) -> ApprovalGiven:
        """The answer, waited for as long as somebody is there. Raises `ApprovalNeeded`."""
        with self._answered:
            if given := self.request(question):
                return given
            while (found := self._given.get(question.id)) is None:
                cancellation.check()
                if not self.attended:
                    raise approval_needed([question])
                # Short waits, because a cancellation does not wake this up.
                self._answered.wait(0.2)
            return found

    def request(
        self, question: Question, told: Told | None = None, *, always: bool = False
    ) -> ApprovalGiven | None:
        """The answer where there is one already; else the question is open, and `told` hears the answer.

        `always`: it is asked whatever the policy is.
        """
        with self._lock:
            if given := self._given.get(question.id):
                return given
            if not (always or self.needs(question.what)):
                return self.resolve(question)
            if told is not None:
                self._told.setdefault(question.id, []).append(told)
            if question.id not in self._open:
                self._open[question.id] = question
                if given := self._preloaded_answer(question):
                    return given
                self._emit(_asked(question))
            if self._yes and question.what != "question":
                return self.answer(question.id, "yes", by="flag")
            return None

    def resolve(self, question: Question) -> ApprovalGiven:
        """Yes, because the settings say so; of a grant that stands in the record, once."""
        with self._lock:
            given = self._given.get(question.id)
            if given is None or given.decision == "no":
                given = ApprovalGiven(id=question.id, decision="yes", by="settings")
                self._given[given.id] = given
                if question.what in GRANTS:
                    self._emit(_asked(question))
                    self._emit(given)
            return given

    def _preloaded_answer(self, question: Question) -> ApprovalGiven | None:
        """What was answered after an earlier process had asked; one that does not fit leaves it open."""
        reply = self._preloaded.pop(question.id, None)
        if reply is not None:
            with contextlib.suppress(UsageError):
                return self.reply(question.id, reply)
        return None

    def on_answer(self, id_: str, told: Told) -> None:
        """Have `told` hear the answer of a question that was asked before, at once where it is there."""
        with self._lock:
            given = self._given.get(id_)
            if given is None:
                self._told.setdefault(id_, []).append(told)
        if given is not None:
            told(given)

    def withdraw(self, question: Question) -> None:
        """Nobody waits for the answer any more."""
        with self._lock:
            self._open.pop(question.id, None)
            self._told.pop(question.id, None)

    def is_answered(self, id_: str) -> bool:
        with self._lock:
            return id_ in self._given

    @property
    def open(self) -> tuple[Question, ...]:
        """The questions without an answer, in the order in which they came up."""
        with self._lock:
            return tuple(self._open.values())

    def take_remarks(self) -> list[str]:
        """What was said since this was asked last."""
        with self._lock:
            said, self._remarks = self._remarks, []
            return said

    # --- for those who answer

    def answer(
        self,
        id_: str,
        decision: Literal["yes", "no", "answered"],
        *,
        value: JsonValue = None,
        remark: str = "",
        by: Literal["user", "flag"] = "user",
    ) -> ApprovalGiven:
        """Give the answer to an open question. Raises `UsageError` where it does not fit one."""
        with self._answered:
            question = self._open.get(id_)
            if question is None:
                raise UsageError(f"There is no open question {id_}.", "It may have been answered meanwhile.")
            if decision != "no":
                check_answer(question, decision, value)
            given = ApprovalGiven(id=id_, decision=decision, value=value, remark=remark, by=by)
            self._emit(given)
            self._given[id_] = given
            del self._open[id_]
            told = self._told.pop(id_, [])
            self._answered.notify_all()
        for tell in told:
            tell(given)
        return given

    def reply(self, id_: str, reply: UserReply) -> ApprovalGiven:
        """As `answer`, with what was typed read as the question wants it. Raises `UsageError`."""
        with self._lock:
            question = self._open.get(id_)
            value: JsonValue = reply.text or None
            if question is not None and question.what == "question" and reply.decision == "answered":
                value = meant(reply.text, question.result)
            return self.answer(id_, reply.decision, value=value, remark=reply.remark)

    def preload(self, id_: str, reply: UserReply) -> None:
        """Give the answer to a question that an earlier process asked, and that will be asked again."""
        with self._lock:
            self._preloaded[id_] = reply

    def remark(self, text: str) -> None:
        """Say something that concerns the whole run."""
        with self._lock:
            self._remarks.append(text)
            self._emit(Remarked(text=text))

    def detach(self) -> None:
        """The person has gone: nobody waits for an answer any more."""
        with self._answered:
            self.attended = False
            self._answered.notify_all()


def _asked(question: Question) -> ApprovalAsked:
    return ApprovalAsked(id=question.id, **question.model_dump())


def approval_needed(questions: Sequence[Question]) -> ApprovalNeeded:
    """The error of a run that cannot go on before these are answered."""
    told = "\n".join(f"{question.id}  {question.question}" for question in questions)
    return ApprovalNeeded(
        f"A person has to decide:\n{told}",
        "Answer with orch approve RUN, or allow it beforehand with -y.",
        tuple(question.id for question in questions),
    )


def check_answer(question: Question, decision: str, value: JsonValue) -> None:
    """Raise `UsageError` where an answer is not of the kind that the question wants."""
    if (question.what == "question") != (decision == "answered"):
        wanted = "an answer" if question.what == "question" else "yes or no"
        raise UsageError(f"The question wants {wanted}.", question.question)
    if question.result is None or question.what != "question":
        return
    faults = list(jsonschema.Draft202012Validator(question.result).iter_errors(value))
    if faults:
        raise UsageError(f"The answer does not fit: {faults[0].message[-240:]}", question.question)
