"""Matches the questions of a run with a person's answers.

A question is asked once in a run. Its id derives from its text, so an answer is found again after the
process was killed, and by every caller that asks the same. The broker shows and reads nothing: questions
are events, and answers come from a terminal, another process, or the journal of a resumed run.

`ask` waits for the answer; `request` returns at once and can call back. If no person is attached, `ask`
raises `ApprovalNeeded`, so that the run can pause and be resumed when the question is answered.

The broker emits events while it holds its lock, so a view must call the broker from a thread of its own.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue

from orchestrator_cli.approvals.deadlines import Moment, Patience, deadline_of, left_s
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.durable.foreign import on_one_line, visible
from orchestrator_cli.durable.lengths import length_text
from orchestrator_cli.durable.text import truncate
from orchestrator_cli.errors import ApprovalNeeded, UsageError
from orchestrator_cli.events import ApprovalAsked, ApprovalGiven, Asked, Part, Remarked
from orchestrator_cli.journal.journal import Emit
from orchestrator_cli.json_schema import misfits
from orchestrator_cli.planning.structured_output import coerce_to_schema
from orchestrator_cli.values import AnsweredBy, Deadline

GRANTS = frozenset({"network", "secrets", "packages", "executes", "effects"})
"""Kinds that are recorded even if the settings allow them without a question."""
ALWAYS = frozenset({"subtask", "question"})
"""Kinds that the plan asks for, so they are asked whatever the policy."""

OnAnswer = Callable[[ApprovalGiven], None]


def _shown(text: str) -> str:
    return "\n".join(map(visible, text.split("\n")))


Shown = Annotated[str, AfterValidator(_shown)]
"""What a person decides by: views would remove hidden signs, so they are written out."""


class Question(Part):
    what: Asked
    subject: str
    """The subtask, tool or plan version concerned."""
    question: Shown
    details: Shown = ""
    result: dict[str, JsonValue] | None = None
    """The JSON Schema of the answer, for some of kind `question`."""
    items: tuple[str, ...] = ()
    """As in `ApprovalAsked`."""

    deadline: Deadline | None = Field(default=None, exclude=True)
    """As in `ApprovalAsked`, if it was read from one."""
    sense: str = Field(default="", exclude=True)
    """Identifies the question if a model may word it differently next time."""

    @property
    def id(self) -> str:
        words = [self.sense] if self.sense else [self.question, self.details]
        identity = json.dumps([self.what, self.subject, *words])
        return hashlib.sha256(identity.encode()).hexdigest()[:8]


def question_of(asked: ApprovalAsked) -> Question:
    """What was asked. Its own id may differ, because the event does not hold all that the id is made of."""
    fields = asked.model_dump(exclude={"kind", "id", "deadline"})
    return Question(**fields, deadline=asked.deadline)


OWN_WORDS_CHARS = 200


def wish(who: str, wanted: str, words: str) -> str:
    """What something wants, as a question. Its own words come last, so they can hide and forge nothing."""
    return f"{who} wants {wanted}. {own_words(words)}"


def own_words(words: str) -> str:
    """A title or a purpose that others wrote, short and on one line, as the end of a question."""
    return f"It says of itself: {truncate(' '.join(words.split()).rstrip('.'), OWN_WORDS_CHARS)}"


class UserReply(Part):
    """A person's answer before it is checked against the question."""

    decision: Literal["yes", "no", "answered"]
    text: str = ""
    """The answer to a `question`; for a plan, the YAML as edited."""
    remark: str = ""


class ApprovalBroker:
    """The questions and answers of one run. Every method may be called from any thread."""

    def __init__(
        self,
        emit: Emit,
        *,
        policy: Container[str],
        yes: Literal["", "flag", "settings"] = "",
        attended: bool = False,
        before: Iterable[ApprovalGiven] = (),
        patience: Patience | None = None,
        asked_before: Mapping[str, ApprovalAsked] | None = None,
    ) -> None:
        """
        Args:
            policy: the kinds of questions to ask.
            yes: what answers yes to every question that takes yes or no; empty if nothing does.
            attended: whether a person may answer while the run goes on.
            before: answers given to earlier processes of the run.
            patience: how long questions are open while no person is attached; None for no limit.
            asked_before: questions of earlier processes, which keep their deadlines.
        """
        self._emit = emit
        self._policy = policy
        self._yes = yes
        self.attended = attended
        self._lock = threading.RLock()
        self._answered = threading.Condition(self._lock)
        self._given = {given.id: given for given in before}
        self._open: dict[str, Question] = {}
        self._callbacks: dict[str, list[OnAnswer]] = {}
        self._remarks: list[str] = []
        self._preloaded: dict[str, tuple[UserReply, AnsweredBy]] = {}
        self._patience = patience
        self._deadlines = {
            id_: one.deadline for id_, one in (asked_before or {}).items() if one.deadline is not None
        }
        self._passed: set[str] = set()
        """Questions whose deadline has passed without an answer to give."""
        self._began = Moment.now()

    # --- asking

    def needs(self, what: Asked) -> bool:
        """Whether a person is asked about this kind of thing."""
        return what in ALWAYS or what in self._policy

    def ask(self, question: Question, cancellation: Cancellation) -> ApprovalGiven:
        """Wait for the answer while a person is attached. Raises `ApprovalNeeded`."""
        with self._answered:
            if given := self.request(question):
                return given
            while (found := self._given.get(question.id)) is None:
                cancellation.check()
                if not self._may_be_answered(question.id):
                    raise approval_needed([question])
                # Short waits, because a cancellation does not wake this up.
                self._answered.wait(0.2)
            return found

    def request(
        self, question: Question, on_answer: OnAnswer | None = None, *, always: bool = False
    ) -> ApprovalGiven | None:
        """The answer if there is one; otherwise the question is open, and `on_answer` receives the answer.

        `always`: ask whatever the policy.
        """
        with self._lock:
            if given := self._given.get(question.id):
                return given
            if not (always or self.needs(question.what)):
                return self.resolve(question)
            if on_answer is not None:
                self._callbacks.setdefault(question.id, []).append(on_answer)
            if question.id not in self._open:
                self._open[question.id] = question
                if given := self._preloaded_answer(question):
                    return given
                self._emit(self._asked(question))
            if self._yes and not needs_its_own_answer(question):
                return self.answer(question.id, "yes", by=self._yes)
            return None

    def resolve(self, question: Question) -> ApprovalGiven:
        """Answer yes because the settings allow it; record it once if its kind is a grant."""
        with self._lock:
            given = self._given.get(question.id)
            if given is None or given.decision == "no":
                given = ApprovalGiven(id=question.id, decision="yes", by="settings")
                self._given[given.id] = given
                if question.what in GRANTS:
                    self._emit(asked_event(question))
                    self._emit(given)
            return given

    def _preloaded_answer(self, question: Question) -> ApprovalGiven | None:
        """The preloaded answer, if there is one and it fits; otherwise the question stays open."""
        if preloaded := self._preloaded.pop(question.id, None):
            with contextlib.suppress(UsageError):
                return self.reply(question.id, *preloaded)
        return None

    def on_answer(self, id_: str, callback: OnAnswer) -> None:
        """Call back with the answer of a question asked before; at once if it is answered."""
        with self._lock:
            given = self._given.get(id_)
            if given is None:
                self._callbacks.setdefault(id_, []).append(callback)
        if given is not None:
            callback(given)

    def withdraw(self, question: Question) -> None:
        """Close a question whose answer is no longer needed."""
        with self._lock:
            self._open.pop(question.id, None)
            self._callbacks.pop(question.id, None)

    def given(self, id_: str) -> ApprovalGiven | None:
        """The answer to a question, if there is one."""
        with self._lock:
            return self._given.get(id_)

    def is_answered(self, id_: str) -> bool:
        return self.given(id_) is not None

    @property
    def waits(self) -> bool:
        """Whether an open question may still be answered while the run goes on."""
        with self._lock:
            return self.attended or any(map(self._may_be_answered, self._open))

    def check_answerable(self) -> None:
        """Raise `ApprovalNeeded` if questions are open and the run does not wait for their answers."""
        if self.open and not self.waits:
            raise approval_needed(self.open)

    def _may_be_answered(self, id_: str) -> bool:
        return self.attended or (id_ in self._deadlines and id_ not in self._passed)

    def _asked(self, question: Question) -> ApprovalAsked:
        """The event of a question that opens, with its deadline."""
        patience = None if self.attended else self._patience
        deadline = deadline_of(patience, self._deadlines.get(question.id), Moment.now())
        if deadline is not None:
            self._deadlines[question.id] = deadline
        return asked_event(question, deadline)

    def pass_deadlines(self) -> None:
        """Answer the open questions whose deadline has passed, unless a person is attached.

        That grants nothing: what asks for yes or no is answered with no, and a question of the plan with the
        default that was given for it. Any other stays open, and the run does not wait for it.
        """
        with self._answered:
            now = Moment.now()
            for question in () if self.attended else self.open:
                deadline = self._deadlines.get(question.id)
                if deadline is None or question.id in self._passed or left_s(deadline, now, self._began) > 0:
                    continue
                try:
                    self._answer_for_no_one(question, deadline)
                except UsageError:  # the default does not fit
                    self._passed.add(question.id)
            self._answered.notify_all()

    def _answer_for_no_one(self, question: Question, deadline: Deadline) -> None:
        """Raises `UsageError` if there is no answer to give."""
        remark = f"no one answered within {length_text(deadline.within_s)}"
        if question.what != "question":
            self.answer(question.id, "no", remark=remark, by="deadline")
        elif deadline.default is None or not question.subject:
            raise UsageError("There is no default answer.")
        else:
            value = coerce_to_schema(deadline.default, question.result)
            self.answer(question.id, "answered", value=value, remark=remark, by="deadline")

    @property
    def open(self) -> tuple[Question, ...]:
        """The unanswered questions, oldest first."""
        with self._lock:
            return tuple(self._open.values())

    def take_remarks(self) -> list[str]:
        """The remarks made since the last call."""
        with self._lock:
            remarks, self._remarks = self._remarks, []
            return remarks

    # --- answering

    def answer(
        self,
        id_: str,
        decision: Literal["yes", "no", "answered"],
        *,
        value: JsonValue = None,
        remark: str = "",
        by: AnsweredBy = "user",
    ) -> ApprovalGiven:
        """Answer an open question. Raises `UsageError` if it is not open or the answer does not fit."""
        with self._answered:
            question = self._open.get(id_)
            if question is None:
                raise UsageError(f"There is no open question {id_}.", "It may have been answered meanwhile.")
            check_answer(question, decision, value)
            given = ApprovalGiven(id=id_, decision=decision, value=value, remark=remark, by=by)
            self._emit(given)
            self._given[id_] = given
            del self._open[id_]
            callbacks = self._callbacks.pop(id_, [])
            self._answered.notify_all()
        for callback in callbacks:
            callback(given)
        return given

    def reply(self, id_: str, reply: UserReply, by: AnsweredBy = "user") -> ApprovalGiven:
        """As `answer`, with the text coerced to the question's schema. Raises `UsageError`."""
        with self._lock:
            question = self._open.get(id_)
            value: JsonValue = reply.text or None
            if question is not None and question.what == "question" and reply.decision == "answered":
                value = coerce_to_schema(reply.text, question.result)
            return self.answer(id_, reply.decision, value=value, remark=reply.remark, by=by)

    def preload(self, id_: str, reply: UserReply, by: AnsweredBy = "user") -> None:
        """Store the answer to a question of an earlier process, for when it is asked again."""
        with self._lock:
            self._preloaded[id_] = reply, by

    def remark(self, text: str) -> None:
        """Add a remark that concerns the whole run."""
        with self._lock:
            self._remarks.append(text)
            self._emit(Remarked(text=text))

    def detach(self) -> None:
        """The person has left: end all waiting for answers."""
        with self._answered:
            self.attended = False
            self._answered.notify_all()


def needs_its_own_answer(question: Question | ApprovalAsked) -> bool:
    """Whether a yes to everything leaves it open: a question for words, or whether to repeat a call."""
    return question.what == "question" or (question.what == "effects" and bool(question.items))


def how_to_answer(run: str, questions: Sequence[Question | ApprovalAsked]) -> list[str]:
    """The commands that answer these questions of a run, a line each; no command that none of them takes."""
    approve, ways = f"orch approve {run}", list[str]()
    to_all = [not needs_its_own_answer(one) for one in questions]
    in_words = [one.what == "question" for one in questions]
    if any(to_all):
        whom = "all" if all(to_all) else "all that ask for yes or no"
        ways.append(f"Say yes to {whom} with: {approve} --yes")
    if not all(in_words):
        ways.append(f"Decide one with: {approve} ID --yes | --no --because TEXT")
    if any(in_words):
        ways.append(f"Answer one in words with: {approve} ID --answer TEXT")
    return ways


def asked_event(question: Question, deadline: Deadline | None = None) -> ApprovalAsked:
    return ApprovalAsked(id=question.id, deadline=deadline, **question.model_dump())


def approval_needed(questions: Sequence[Question]) -> ApprovalNeeded:
    """The error of a run that cannot continue before these are answered."""
    listed = "; ".join(f"{one.id}  {' '.join(one.question.split())}" for one in questions)
    return ApprovalNeeded(
        f"A person has to decide: {listed}",
        "Answer with orch approve RUN, or allow it beforehand with -y.",
        tuple(question.id for question in questions),
    )


def check_answer(question: Question, decision: str, value: JsonValue) -> None:
    """Raise `UsageError` if the answer is not of the kind that the question asks for; no always is."""
    if decision == "no":
        return
    if (question.what == "question") != (decision == "answered"):
        wanted = "an answer" if question.what == "question" else "yes or no"
        raise UsageError(f"The question wants {wanted}.", on_one_line(question.question))
    if question.result is None or question.what != "question":
        return
    if found := misfits(question.result, value):
        raise UsageError(
            f"The answer does not fit: {found[0].message[-240:]}", on_one_line(question.question)
        )


def check_reply(question: Question, reply: UserReply) -> None:
    """As `check_answer`, with the text coerced to the question's schema."""
    value = coerce_to_schema(reply.text, question.result) if reply.decision == "answered" else None
    check_answer(question, reply.decision, value)
