"""What the demo's plan takes that is neither model nor tool nor import, with the Prefect server warm.

The demo runs in a process that has imported everything, after one run that is not counted. Its model's
replies are recorded, so the model takes no time. Then, from the run's own events and the sandbox's clock:

    whole      from RunStarted to RunFinished
    sandbox    the time in which at least one sandbox was starting or running code: agents' steps, tools
               and their trials
    own        whole - sandbox: recall, the plan, Prefect, checkouts and commits, the log, remembering
    between    that part of `own` in which no subtask and no tool was being worked on

What is not covered: the model's time and the imports, which a real run has beside each other.
"""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

from measuring import place, run, show, together

REPEAT = 5
BEGIN = {"SubtaskStarted": "subtask", "ToolNeeded": "tool"}
END = {"SubtaskFinished": "subtask", "SubtaskFailed": "subtask", "ToolBuilt": "tool", "ToolRefused": "tool"}


def timed(method: Callable[..., Any], spans: list[tuple[float, float]]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            spans.append((started, time.perf_counter()))

    return call


def busy(events: list[Any]) -> float:
    """Seconds in which a subtask or a tool was being worked on, by the events."""
    begun: dict[tuple[str, str], float] = {}
    spans = []
    for event in events:
        moment = event.time.timestamp()
        if kind := BEGIN.get(event.kind):
            begun[kind, getattr(event.data, kind)] = moment
        elif kind := END.get(event.kind):
            name = event.data.result.subtask if event.kind == "SubtaskFinished" else getattr(event.data, kind)
            if (kind, name) in begun:
                spans.append((begun.pop((kind, name)), moment))
    return together(spans)


def main() -> None:
    from orchestrator_cli.cli import demo
    from toolsmith.sandbox.session import SandboxSession

    spans: list[tuple[float, float]] = []
    for name in ("request", "bind", "close"):
        setattr(SandboxSession, name, timed(getattr(SandboxSession, name), spans))
    rows: dict[str, list[float]] = {"whole": [], "sandbox": [], "own": [], "between": []}
    with place() as found:
        settings = found.model_copy(update={"home": found.home / "demo", "prefect_home": found.home})
        for number in range(REPEAT + 1):
            demo.prepare_home(settings.home, again=False)
            (settings.workspace / "new.txt").unlink(missing_ok=True)
            (settings.workspace / "fileLog.md").unlink(missing_ok=True)
            spans.clear()
            events, _ = run(demo.PROMPT, settings, demo.recorded_model(again=False))
            whole = (events[-1].time - events[0].time).total_seconds()
            figures = {"whole": whole, "sandbox": together(spans), "between": whole - busy(events)}
            figures["own"] = whole - figures["sandbox"]
            if number:
                for name, value in figures.items():
                    rows[name].append(value)
    show({name: statistics.median(values) for name, values in rows.items()}, against="whole")


if __name__ == "__main__":
    main()
