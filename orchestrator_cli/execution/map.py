"""The instances of a `for_each` subtask, from its list to its one result.

What became of each instance is in the run's state; here is only which of them to start next.
"""

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from orchestrator_cli.plan import Instance, Result, Subtask, instance_name, resolve, whole_name
from orchestrator_cli.planning.answer import summarise
from orchestrator_cli.state import RunState
from orchestrator_cli.values import Usage


@dataclass
class MapRun:
    """A `for_each` subtask under way. After a failure no further item starts, unless failures are skipped."""

    subtask: Subtask
    plan_version: int
    instances: tuple[Subtask, ...]
    """One for each item, with its own inputs."""
    blocked: list[Subtask] = field(default_factory=list)
    """Instances that came to a question, and start again once it is answered."""
    since: float = field(default_factory=time.monotonic)
    _cursor: int = 0

    def next(self, state: RunState) -> Subtask | None:
        """The next instance to start; it counts as started from then on."""
        if self.failures(state) and self.subtask.on_failure != "skip":
            return None
        for instance in self.blocked:
            if instance.id not in state.waiting:
                self.blocked.remove(instance)
                return instance
        while self._cursor < len(self.instances):
            instance = self.instances[self._cursor]
            self._cursor += 1
            if instance.id not in state.instances:
                return instance
        return None

    def failures(self, state: RunState) -> dict[int, str]:
        """Why instances failed, by their place in the list."""
        if not state.instance_failures:
            return {}
        known = state.instance_failures
        return {n: known[one.id] for n, one in enumerate(self.instances) if one.id in known}

    def is_over(self, state: RunState, under_way: Collection[str]) -> bool:
        """Whether no instance runs and none is to come."""
        if any(whole_name(name) == self.subtask.id for name in under_way):
            return False
        if self.failures(state) and self.subtask.on_failure != "skip":
            return True
        # In a resumed run, all that is left to begin may be done already.
        left = any(one.id not in state.instances for one in self.instances[self._cursor :])
        return not left and not self.blocked

    def outcome(self, state: RunState) -> Result | str:
        """One result of all, or why the whole failed: the values in order, null for a failure."""
        failures = self.failures(state)
        if failures and self.subtask.on_failure != "skip":
            reasons = "; ".join(f"[{place}] {reason}" for place, reason in failures.items())
            return f"{len(failures)} of {len(self.instances)} items failed: {reasons}"
        found = [state.instances.get(one.id) for one in self.instances]
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


SHARED_CHARS = 100_000_000
"""How long the inputs that all instances share may be, as JSON and counted for each of them."""


def spread(
    subtask: Subtask, plan_version: int, results: Mapping[str, Result], *, max_items: int | None = None
) -> MapRun:
    """The instances of a subtask; `results` are of the subtasks that are done.

    Raises `ValueError` if the reference leads to no list or to one of more than `max_items` items, or if the
    instances are given too much; `KeyError` as `resolve` does.
    """
    items = resolve(subtask.for_each, results)
    if not isinstance(items, list):
        raise ValueError(f"{subtask.for_each} is not a list")
    if max_items is not None and len(items) > max_items:
        raise ValueError(
            f"{subtask.for_each} has {len(items):,} items, and the setting max_items allows {max_items:,}"
        )
    shared = len(json.dumps(resolve(subtask.inputs, results), ensure_ascii=False))
    if shared * len(items) > SHARED_CHARS:
        raise ValueError(
            f"each of {len(items):,} items would be given {shared:,} characters, more than {SHARED_CHARS:,} "
            "in all: give an item only its own part, by $item"
        )
    instances = tuple(_instance(subtask, place, item, items, results) for place, item in enumerate(items))
    return MapRun(subtask, plan_version, instances)


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
