"""What a subtask costs as plans grow: python benchmarks/bench_subtasks.py [--large]

The plan is so many calls of `list_files`, none of which waits for another: no model and no sandbox, only
checkout, Prefect's task run, artifact, journal and log. Beside it, Prefect alone: a flow with as many tasks
that do nothing, on the same server, by the same thread pool. Per subtask, with the flow's own start in it.

`--large` adds 1,000 subtasks, more than settings allow.
"""

import argparse
import json
import sys
import time
from typing import Any

from measuring import place, run, seconds, show

SIZES = (10, 100)
REST_S = 0.04
"""For each task before it: Prefect's server goes on writing down a run for a while after it has ended."""
LARGE = 1_000


class Planner:
    """A model that wants `size` subtasks and says that all is done."""

    def __init__(self, size: int) -> None:
        fields = {"kind": "tool", "tools": ["list_files"], "inputs": {}}
        subtasks = [{"id": f"s{n}", "title": f"Look, {n}", **fields} for n in range(size)]
        self._plan = json.dumps({"goal": "it was looked often", "subtasks": subtasks})

    def complete(self, request: Any, *_: Any, **__: Any) -> Any:
        from orchestrator_cli.models.model import Completion
        from orchestrator_cli.values import Usage

        text = self._plan if request.role == "planner" else "All is done."
        return Completion(text=text, model="fixed", usage=Usage(calls=1))


def bare(size: int, parallel: int) -> float:
    """Seconds that Prefect alone takes for so many tasks that do nothing."""
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.task_runners import ThreadPoolTaskRunner

    @task(persist_result=False, cache_policy=NO_CACHE)
    def nothing() -> None:
        return None

    runner: Any = ThreadPoolTaskRunner(max_workers=parallel)

    @flow(task_runner=runner)
    def tasks() -> None:
        for future in [nothing.submit() for _ in range(size)]:
            future.wait()

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        return seconds(tasks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--large", action="store_true", help=f"also {LARGE:,} subtasks")
    sizes = (*SIZES, LARGE) if parser.parse_args(sys.argv[1:]).large else SIZES
    rows: dict[str, float] = {}
    with place() as found:
        settings = found.model_copy(update={"max_subtasks": LARGE})
        bare(5, settings.max_parallel)
        run("Look around.", settings, Planner(2))
        for size in sizes:
            rows[f"{size:>5,} tasks of Prefect"] = bare(size, settings.max_parallel) / size
            time.sleep(REST_S * size)
            events, _ = run("Look around.", settings, Planner(size))
            rows[f"{size:>5,} subtasks"] = (events[-1].time - events[0].time).total_seconds() / size
            time.sleep(REST_S * size)
    show(rows, against=f"{SIZES[0]:>5,} subtasks")


if __name__ == "__main__":
    main()
