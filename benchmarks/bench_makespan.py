"""How close a run comes to its plan's critical path, with a model that takes 300 ms for each reply.

Two shapes. Branches: agents side by side and one that needs them all, as the questions of LLMCompiler's
ParallelQA want it (2 to 5 branches). Fan: sixty agents, sixteen at once, and one that needs all. Each agent
is one reply. From the run's events, as medians of 3 runs:

    critical path     the replies that have to be waited for one after the other, and nothing else
    Prefect alone     a flow of the same shape whose tasks only sleep, on the same server
    plan              from PlanProposed to the last SubtaskFinished; the model answers in this process
    plan, LiteLLM     the same with the model behind HTTP, asked through LiteLLM as in a real run
    run, LiteLLM      all of it, from RunStarted to RunFinished, against two replies more: planner and answer

What is not covered: agents that run code, whose sandboxes `sandbox` measures.
"""

import math
import statistics
import time
from typing import Any

from measuring import place, run, seconds, show
from serving import FixedModel, prompt, serving

LATENCY_S = 0.3
SHAPES = {"2 branches": (2, 5), "5 branches": (5, 5), "fan of 60, 16 at once": (60, 16)}
"""Agents side by side, and how many of them at once."""
REPEAT = 3
REST_S = 2.0
"""For Prefect's server, which goes on writing down a run for a while after it has ended."""
ROLES = ("planner", "agent", "toolsmith", "reviser", "answer")


def alone(count: int, parallel: int) -> float:
    """Seconds that Prefect takes for a flow of this shape, without its beginning and end."""
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.task_runners import ThreadPoolTaskRunner

    @task(persist_result=False, cache_policy=NO_CACHE)
    def wait() -> None:
        time.sleep(LATENCY_S)

    runner: Any = ThreadPoolTaskRunner(max_workers=parallel)
    taken = []

    @flow(task_runner=runner)
    def tasks() -> None:
        taken.append(seconds(lambda: wait.submit(wait_for=[wait.submit() for _ in range(count)]).wait()))

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        tasks()
    return taken[0]


def plan_seconds(events: list[Any]) -> float:
    begin = next(event.time for event in events if event.kind == "PlanProposed")
    end = max(event.time for event in events if event.kind == "SubtaskFinished")
    return float((end - begin).total_seconds())


def run_seconds(events: list[Any]) -> float:
    return float((events[-1].time - events[0].time).total_seconds())


def median(measure: Any) -> float:
    """After a first one that is not counted."""
    taken = []
    for _ in range(REPEAT + 1):
        time.sleep(REST_S)
        taken.append(measure())
    return statistics.median(taken[1:])


def main() -> None:
    with place() as found, serving(LATENCY_S):
        names = {role: f"openai/{role}" for role in ROLES}
        models = type(found.models)(**names)
        for name, (count, parallel) in SHAPES.items():
            settings = found.model_copy(
                update={"max_parallel": parallel, "max_subtasks": count + 1, "models": models}
            )
            path = (math.ceil(count / parallel) + 1) * LATENCY_S
            rows = {
                "critical path": path,
                "Prefect alone": median(lambda c=count, p=parallel: alone(c, p)),
                "plan": median(
                    lambda s=settings, c=count: plan_seconds(run(prompt(c), s, FixedModel(LATENCY_S))[0])
                ),
                "plan, LiteLLM": median(lambda s=settings, c=count: plan_seconds(run(prompt(c), s)[0])),
            }
            print(f"  {name}")
            show(rows, against="critical path")
            whole = median(lambda s=settings, c=count: run_seconds(run(prompt(c), s)[0]))
            show({"all replies": path + 2 * LATENCY_S, "run, LiteLLM": whole}, against="all replies")


if __name__ == "__main__":
    main()
