"""Disputes: the writer of the code says that a case demands what the specification does not support.

A wrong case would refuse every right tool. So once per build the writer may challenge one case or property,
and only one that its code fails. Somebody who sees the specification, the case and the reason, but never the
code, rules: keep it, change it, or withdraw it. All of that stays in the tool's record.

Not covered: an example of the specification, which says itself what is right; and a second wrong case.
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from toolsmith.proof.cases import Property, Suite
from toolsmith.spec import Case

Verdict = Literal["keep", "change", "withdraw"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Objection(_Value):
    """What the writer of the code says."""

    case: str
    """Title of a case or a property."""
    reason: str


class Ruling(_Value):
    """What was ruled."""

    verdict: Verdict
    reason: str
    case: Case | None = None
    """In place of the old one, only with `change`."""
    property: Property | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.verdict == "change") != bool(self.case or self.property):
            raise ValueError("case: belongs to the verdict 'change', and to no other")
        return self


class Challenge(_Value):
    """An objection and the ruling on it."""

    title: str
    reason: str
    verdict: Verdict
    ruling: str
    before: dict[str, Any]
    after: dict[str, Any] | None = None


def challenged(suite: Suite, title: str) -> Case | Property | None:
    """The case or property of that title."""
    known: list[Case | Property] = [*suite.cases, *suite.properties]
    return next((one for one in known if one.title == title), None)


def settled(suite: Suite, old: Case | Property, ruling: Ruling) -> Suite:
    """The suite as it is after a ruling."""
    new = ruling.case or ruling.property
    if ruling.verdict == "keep":
        return suite
    cases = [case for case in suite.cases if case is not old]
    properties = [held for held in suite.properties if held is not old]
    if isinstance(new, Case):
        cases.append(new)
    elif isinstance(new, Property):
        properties.append(new)
    return Suite(cases=tuple(cases), properties=tuple(properties))


def recorded(old: Case | Property, objection: Objection, ruling: Ruling) -> Challenge:
    """For the tool's record."""
    new = ruling.case or ruling.property
    return Challenge(
        title=old.title,
        reason=objection.reason,
        verdict=ruling.verdict,
        ruling=ruling.reason,
        before=old.model_dump(mode="json"),
        after=new.model_dump(mode="json") if new else None,
    )
