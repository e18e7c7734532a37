"""What runs gain from those before them: a family of requests, with a planner that is wrong twice.

The model answers in this process, each reply after 1 s. It plans to look for a file where it is not, until it
is told of both mistakes. After each of the first three runs the user says how it was; from the fourth on, the
plan is used again. Printed for each run: how it ended, model calls, tokens, seconds, and who planned.

What is not covered: how well a real model heeds what it is told.
"""

import contextlib
import logging
import re
import time
from typing import Any

from measuring import Seen, place, use_test_parts

LATENCY_S = 1.0
REQUEST = "Copy the text of in{n}.txt to out{n}.txt for the archive"
FEEDBACK = {1: ("bad", "not below data"), 2: ("bad", "not below input either"), 3: ("good", "")}
RUNS = 6


class Learner:
    """The model."""

    def complete(self, request: Any, *_: Any, **__: Any) -> Any:
        from scripted_model import decided

        from orchestrator_cli.models.model import Completion
        from orchestrator_cli.values import Usage

        time.sleep(LATENCY_S)
        asked = "\n".join(str(message["content"]) for message in request.messages)
        text = "All is done."
        if request.role == "planner":
            text = _plan(asked)
        elif request.role == "reviser":
            text = decided("stop", "It is not there.")
        usage = Usage(calls=1, prompt_tokens=len(asked) // 4, completion_tokens=len(text) // 4)
        return Completion(text=text, model="scripted", usage=usage)


def _plan(asked: str) -> str:
    from scripted_model import plan, tool_call

    source, target = re.findall(r"text of (\S+) to (\S+)", asked)[-1]
    folder = "" if "not below input" in asked else "input/" if "not below data" in asked else "data/"
    read = tool_call("read", "read_file", path=folder + source)
    return plan(read, tool_call("write", "write_file", ["read"], path=target, content="$read.value"))


def once(n: int, settings: Any) -> tuple[Any, bool]:
    """One run and what is said of it: its end, and whether a plan was used again."""
    from orchestrator_cli.errors import OrchError
    from orchestrator_cli.models.sources import GivenModel
    from orchestrator_cli.orchestrator import run_prompt
    from orchestrator_cli.recall.run_memory import open_memory
    from orchestrator_cli.recall.scopes import user_scope
    from orchestrator_cli.runs.feedback import give_feedback
    from orchestrator_cli.runs.find import find_run
    from orchestrator_cli.runtime import open_run

    seen = Seen()
    with open_run(settings, [seen], source=GivenModel(Learner())) as run, contextlib.suppress(OrchError):
        run_prompt(REQUEST.format(n=n), run)
    if n in FEEDBACK:
        memory = open_memory(settings, lambda _: None)
        vote, why = FEEDBACK[n]
        past, user = find_run(settings, seen.events[0].run), user_scope(settings)
        give_feedback(past, vote, why, memory=memory, user=user, views=list)  # type: ignore[arg-type]
        memory.close()
    end = seen.events[-1].data
    return end, any(event.kind == "PlanReused" for event in seen.events)


def main() -> None:
    use_test_parts()
    logging.disable(logging.ERROR)  # Prefect tells of the runs that are meant to fail
    with place(reuse="auto") as settings:
        for n in range(RUNS + 1):
            (settings.workspace / f"in{n}.txt").write_text(f"text {n}")
        print("  run  outcome    calls  tokens  seconds  planned by")
        for n in range(1, RUNS + 1):
            end, reused = once(n, settings)
            tokens = end.usage.prompt_tokens + end.usage.completion_tokens
            who = "the plan of run 3" if reused else "the planner"
            print(f"  {n:<4} {end.outcome:<10} {end.usage.calls:>5} {tokens:>7} {end.seconds:>8.2f}  {who}")


if __name__ == "__main__":
    main()
