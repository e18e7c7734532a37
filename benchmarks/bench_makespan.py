"""How close a run comes to its plan's critical path, with a model that takes a fixed time for each reply.

The plan is a diamond: one subtask, then three side by side, then one that needs all three; each is an agent
that takes two steps. On the critical path are the planner, three subtasks and the answer: eight replies.
One after the other, all of it is twelve.

    critical path     eight replies, and nothing else
    makespan          the whole run, from RunStarted to RunFinished
    one by one        twelve replies, and nothing else

The model is an HTTP endpoint on loopback, asked through LiteLLM.
"""

import os
import statistics

from measuring import place, run, show, use_test_parts

LATENCY_S = 0.5
REPEAT = 3
SIDES = ("left", "middle", "right")


def main() -> None:
    use_test_parts()
    from cast import MODELS, Cast, code, coder, plan
    from endpoint import Endpoint

    names = ("first", *SIDES, "last")

    def cast() -> Cast:
        graph = plan(coder("first"), *(coder(n, ["first"]) for n in SIDES), coder("last", SIDES))
        steps = [code("x = 1\nprint(x)"), code("final_answer(x + 1)")]
        return Cast(planner=[graph], agents={f"Do {name}": steps for name in names})

    with Endpoint() as endpoint, place() as found:
        os.environ |= {"OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": "none"}
        settings = found.model_copy(
            update={"models": type(found.models)(**{_role(k): v for k, v in MODELS.items()})}
        )
        taken = []
        for number in range(REPEAT + 1):
            play = cast()
            endpoint.reply = lambda request, n, play=play: {"content": play(request, n), "sleep": LATENCY_S}
            events, _ = run("Do the five pieces of work.", settings)
            if number:
                taken.append((events[-1].time - events[0].time).total_seconds())
    replies = {"critical path": 8 * LATENCY_S, "one by one": 12 * LATENCY_S}
    show(replies | {"makespan": statistics.median(taken)}, against="critical path")


def _role(variable: str) -> str:
    return variable.removeprefix("ORCH_MODELS__").lower()


if __name__ == "__main__":
    main()
