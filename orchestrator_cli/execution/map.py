"""The instances of a `for_each` subtask, from its list to its one result."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from orchestrator_cli.plan import Instance, Result, Subtask, instance_name, resolve
from orchestrator_cli.planning.answer import summarise
from orchestrator_cli.usage import Usage


@dataclass
class Fan:
    """What became of each item so far.

    After a failure no further item is begun, unless failures are skipped.
    """

    subtask: Subtask
    plan_version: int
    instances: tuple[Subtask, ...]
    """One for each item, with its own inputs."""
    results: dict[int, Result] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    blocked: set[int] = field(default_factory=set)
    """Places whose instance waits for a person."""
    again: list[int] = field(default_factory=list)
    """Places that were answered and start once more."""
    since: float = field(default_factory=time.monotonic)
    begun: int = 0
    """How many have been looked at, whether to start or because they were done before."""

    def next(self) -> int | None:
        """The place of the next instance to start, or None."""
        if self.hopeless:
            return None
        if self.again:
            return self.again[0]
        while self.begun < len(self.instances) and self.begun in self.results:
            self.begun += 1
        return self.begun if self.begun < len(self.instances) else None

    def start(self, place: int) -> Subtask:
        """The instance at a place that `next` has named."""
        if place in self.again:
            self.again.remove(place)
        else:
            self.begun = place + 1
        return self.instances[place]

    def wake(self, place: int) -> None:
        """The person has answered that an instance waited for."""
        if place in self.blocked:
            self.blocked.remove(place)
            self.again.append(place)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.since

    @property
    def hopeless(self) -> bool:
        return bool(self.failures) and self.subtask.on_failure != "skip"

    def over(self, running: int) -> bool:
        """Whether nothing is to come; `running` are its instances that are under way."""
        return running == 0 and self.next() is None and (self.hopeless or not self.blocked)

    def failure(self) -> str:
        """Why the whole has failed; empty where it has not."""
        if not self.hopeless:
            return ""
        told = "; ".join(f"[{place}] {reason}" for place, reason in sorted(self.failures.items()))
        return f"{len(self.failures)} of {len(self.instances)} items failed: {told}"

    def gathered(self) -> Result:
        """One result of all: values in the order of the items, null for one that failed."""
        found = [self.results.get(place) for place in range(len(self.instances))]
        done = [result for result in found if result is not None]
        value: JsonValue = [None if result is None else result.value for result in found]
        surprises = [f"{result.subtask}: {result.surprise}" for result in done if result.surprise]
        return Result(
            subtask=self.subtask.id,
            attempt=1,
            plan_version=self.plan_version,
            value=value,
            summary=summarise(value),
            files=tuple(sorted({path for result in done for path in result.files})),
            surprise="\n".join(surprises) or None,
            usage=sum((result.usage for result in done), Usage()),
        )


def spread(
    subtask: Subtask, plan_version: int, results: Mapping[str, Result], before: Mapping[str, Result]
) -> Fan:
    """The instances of a subtask whose list is there.

    Args:
        results: of the subtasks that are done.
        before: of instances that are done already, by their names.

    Raises `ValueError` where the reference leads to no list, `KeyError` as `resolve` does.
    """
    items = resolve(subtask.for_each, results)
    if not isinstance(items, list):
        raise ValueError(f"{subtask.for_each} is no list")
    instances = tuple(_instance(subtask, place, item, items, results) for place, item in enumerate(items))
    done = {place: before[one.id] for place, one in enumerate(instances) if one.id in before}
    return Fan(subtask, plan_version, instances, done)


def _instance(
    subtask: Subtask, place: int, item: JsonValue, items: list[JsonValue], results: Mapping[str, Result]
) -> Subtask:
    return subtask.model_copy(
        update={
            "id": instance_name(subtask.id, place),
            "title": f"{subtask.title} ({place + 1} of {len(items)})",
            "for_each": None,
            "inputs": resolve(subtask.inputs, results, Instance(item=item, index=place)),
        }
    )
