"""Calls with effects outside the workspace, which must not be repeated by accident.

Each call has an idempotency key. The journal has it before and after the call, and the callee receives it,
so that it can recognise a repetition. The key derives from the run, the subtask, the callee and its inputs,
so it is the same for a retry, after a resume and in every version of the plan.

A call that began and whose outcome is unknown (the process was killed, or the call timed out) is not
repeated silently. That includes the same call by another subtask, as a reviser may plan it for another try:
that call takes the key of the unconfirmed one. `-y` does not decide whether a call is repeated, confirmed or
not: only the policy repeats it, or an answer to that very question.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from orchestrator_cli.approvals.broker import ApprovalBroker, Question, approval_needed
from orchestrator_cli.errors import RecoverableError
from orchestrator_cli.events import EffectBegun, EffectEnded
from orchestrator_cli.journal.journal import Emit

Policy = Literal["ask", "retry", "skip"]
CallDecision = Literal["do", "take", "ask", "leave"]


class EffectFailed(RecoverableError):
    """The call reported a failure; the message says why."""


class EffectRefused(RecoverableError):
    """The call is not made, nor would another attempt be; the message says why."""


@dataclass(frozen=True)
class EffectCall:
    """A call that a subtask is about to make."""

    subtask: str
    attempt: int
    what: str
    """Such as `process deploy`."""
    inputs: Mapping[str, JsonValue]


@dataclass(frozen=True)
class EffectOutcome:
    value: JsonValue
    files: tuple[str, ...] = ()
    """Files written into the checkout, which are lost if the subtask does not commit."""


def decide(begun: bool, ended: EffectEnded | None, policy: Policy) -> CallDecision:
    """What to do about a call, given what the journal has about its key.

    `do` it, `take` the earlier call's value, `ask` the user, or `leave` it, because it may have been made.
    """
    if ended is not None and not ended.ok:
        return "do"
    if ended is not None and not ended.files:
        return "take"
    if ended is None and not begun:
        return "do"
    if policy == "skip":
        return "leave" if ended is None else "take"
    return "do" if policy == "retry" else "ask"


def key_of(run: str, call: EffectCall) -> str:
    """Two halves: one with the subtask, one for the same call by any subtask."""
    same: list[JsonValue] = [call.what, dict(call.inputs)]
    return f"{_digest([run, call.subtask, *same])}-{_digest([run, *same])}"


def _digest(parts: list[JsonValue]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Effects:
    """The calls of one run. Every method may be called from any thread."""

    def __init__(
        self,
        run: str,
        *,
        broker: ApprovalBroker,
        emit: Emit,
        policy: Policy,
        before: Iterable[EffectBegun | EffectEnded] = (),
    ) -> None:
        """`before`: the calls in the journal of a resumed run."""
        self._run = run
        self._broker = broker
        self._emit = emit
        self._policy = policy
        self._lock = threading.Lock()
        self._begun: dict[str, EffectBegun] = {}
        self._times: dict[str, int] = {}
        """How often each key was begun."""
        self._ended: dict[str, EffectEnded] = {}
        self._running: set[str] = set()
        for fact in before:
            self._note(fact)

    def allow(self, name: str, question: str, details: str, *, granted: bool = False) -> None:
        """Ask, once in a run, whether something may be done at all, unless the settings grant it.

        Raises `EffectRefused`, and `ApprovalNeeded` until it is answered. It does not wait, so that the
        person's time does not count as the subtask's.
        """
        asked = Question(what="effects", subject=name, question=question, details=details)
        given = self._broker.resolve(asked) if granted else self._broker.request(asked)
        if given is None:
            raise approval_needed([asked])
        if given.decision == "no":
            raise EffectRefused(f"the user did not allow {name}{given.reason}")

    def once(self, call: EffectCall, do: Callable[[str], EffectOutcome]) -> EffectOutcome:
        """Make a call, unless it was made before; `do` receives the key.

        If `do` raises anything but `EffectFailed`, the outcome of the call is unknown. Also raises
        `EffectRefused` and `ApprovalNeeded`.
        """
        key = self.begin(call)
        if isinstance(key, EffectOutcome):
            return key
        outcome, ok = None, False
        try:
            outcome, ok = do(key), True
            return outcome
        except EffectFailed as exc:
            outcome = EffectOutcome(str(exc))
            raise
        finally:
            self.end(key, ok, outcome)

    def begin(self, call: EffectCall) -> str | EffectOutcome:
        """The key to make a call with, or what it came to when it was made before.

        A key has to be given back to `end`. Raises `EffectRefused` and `ApprovalNeeded`.
        """
        key = self._key(call)
        before = self._ended.get(key)
        match decide(key in self._begun, before, self._policy):
            case "leave":
                raise EffectRefused(_unknown(call))
            case "ask" if not self._again(call, key, before):
                if before is None:
                    raise EffectRefused(f"{_unknown(call)}, and the user does not want it done again")
                return EffectOutcome(before.outcome)
            case "take" if before is not None:
                return EffectOutcome(before.outcome)
        with self._lock:
            self._running.add(key)
        self._record(EffectBegun(key=key, subtask=call.subtask, attempt=call.attempt, what=call.what))
        return key

    def end(self, key: str, ok: bool, outcome: EffectOutcome | None) -> None:
        """How a call ended; without an outcome it is not known whether it was made."""
        try:
            if outcome is not None:
                self._record(EffectEnded(key=key, ok=ok, outcome=outcome.value, files=outcome.files))
        finally:
            with self._lock:
                self._running.discard(key)

    def _again(self, call: EffectCall, key: str, before: EffectEnded | None) -> bool:
        """Whether the person wants the call repeated."""
        if before is None:
            why, no = "it is not known whether it was done", f"{call.subtask} counts as failed"
        else:
            why, no = f"{', '.join(before.files)}, which it wrote, are lost", "the plan goes on without them"
        question = f"{call.what} was begun, and {why}. Do it again? No means: {no}."
        asked = Question(
            what="effects",
            subject=call.subtask,
            question=question,
            details=f"{self._last(key)}\n{json.dumps(dict(call.inputs), ensure_ascii=False)}",
            items=(key,),
        )
        given = self._broker.request(asked, always=True)
        if given is None:
            raise approval_needed([asked])
        return given.decision != "no"

    def _last(self, key: str) -> str:
        """Which repetition it is, because an answer counts for one only."""
        begun, times = self._begun.get(key), self._times.get(key, 1)
        attempt = f", attempt {begun.attempt}" if begun else ""
        return f"idempotency key {key}{attempt}{f', begun {times} times' if times > 1 else ''}"

    def _key(self, call: EffectCall) -> str:
        """The call's own key, or that of an unconfirmed equal call."""
        key = key_of(self._run, call)
        with self._lock:
            if key in self._begun or key in self._ended:
                return key
            same = key.partition("-")[2]
            open_ = (k for k in self._begun if k not in self._ended and k not in self._running)
            return next((k for k in open_ if k.endswith(f"-{same}")), key)

    def _record(self, fact: EffectBegun | EffectEnded) -> None:
        self._emit(fact)
        self._note(fact)

    def _note(self, fact: EffectBegun | EffectEnded) -> None:
        with self._lock:
            if isinstance(fact, EffectEnded):
                self._ended[fact.key] = fact
            else:
                self._begun[fact.key] = fact
                self._times[fact.key] = self._times.get(fact.key, 0) + 1
                self._ended.pop(fact.key, None)


def _unknown(call: EffectCall) -> str:
    return f"{call.what} was begun before, and it is not known whether it was done"
