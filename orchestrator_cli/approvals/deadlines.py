"""Until when a question waits for a person who is not there: rules about two clocks, without effects.

Within a boot of the machine, time is measured by a clock that cannot be set and counts sleep, so setting the
time answers nothing early. It is the same for all processes, so a resumed run measures on. After another boot
only the time of day is left. It may be wrong until the machine has asked the network, so such a question
stays open for `SETTLING_S` at least after the run was taken up, or for as long as it had, and its deadline is
then looked at again; and a time of day before the question was asked counts as the moment of asking.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from orchestrator_cli.durable.boot_clock import boot_id, boot_seconds
from orchestrator_cli.plan import FrozenModel
from orchestrator_cli.values import Deadline

SETTLING_S = 60.0
"""How long the time of day may be wrong after the machine was started."""


class Patience(FrozenModel):
    """How long questions are open while no person is attached, and the answer to those in words then."""

    within_s: float
    default: str | None = None


@dataclass(frozen=True)
class Moment:
    """A moment by both clocks."""

    time: datetime
    boot: str
    boot_s: float

    @classmethod
    def now(cls) -> Self:
        return cls(datetime.now(UTC), boot_id(), boot_seconds())


def deadline_of(patience: Patience | None, earlier: Deadline | None, now: Moment) -> Deadline | None:
    """The deadline of a question that opens; `earlier`: the one that it had in an earlier process."""
    if patience is None:
        return earlier
    if earlier is not None:
        return earlier.model_copy(update={"within_s": patience.within_s, "default": patience.default})
    return Deadline(
        asked=now.time,
        within_s=patience.within_s,
        default=patience.default,
        boot=now.boot,
        boot_s=now.boot_s,
    )


def left_of(deadline: Deadline | None) -> float:
    """How many seconds a question of another process waits; 0.0 without a deadline."""
    return left_s(deadline, Moment.now()) if deadline is not None else 0.0


def left_s(deadline: Deadline, now: Moment, began: Moment | None = None) -> float:
    """How many seconds a question still waits; 0.0 when its deadline has passed.

    `began`: when the process took up the run that asks; None for one that only looks on.
    """
    if deadline.boot and deadline.boot == now.boot:
        passed, settling = now.boot_s - deadline.boot_s, 0.0
    else:
        passed = (now.time - deadline.asked).total_seconds()
        settling = SETTLING_S - (now.boot_s - began.boot_s) if began is not None else 0.0
    left = deadline.within_s - max(0.0, passed)
    return max(0.0, left, min(settling, deadline.within_s))
