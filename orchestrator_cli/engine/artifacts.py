"""What the Prefect UI shows of a run besides its states: the plan and each result, as artifacts.

They are sent beside the work, in order, and the last ones beside the answer: a subtask whose result is
committed is done, and nothing waits for its artifact. Prefect is slow with each; if many wait, as in a plan
of hundreds of quick subtasks, those results go together as one. An artifact that Prefect refuses is a notice
and harms nothing else.
"""

import queue
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator_cli.plan import Plan, Result
from orchestrator_cli.planning.answer import as_text

MAX_CHARS = 20_000
TOGETHER_CHARS = 1_000
"""Of each result, where they are sent together."""
MANY = 40
"""More results than these that wait are sent as one artifact."""
CLOSING_S = 30.0
"""The longest that the end of a run waits for the last ones to be sent."""


class Artifacts:
    """The artifacts of one flow run. Leaving it waits until they are sent.

    `notice` is called once, for the first that could not be sent.
    """

    def __init__(self, notice: Callable[[str], None]) -> None:
        self._notice = notice
        self._rows: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._send, name="orch: artifacts", daemon=True)

    def __enter__(self) -> "Artifacts":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.put(None)
        self._thread.join(CLOSING_S)

    def show_plan(self, plan: Plan, why: str) -> None:
        """Put a version of the plan beside the flow run."""
        self._show("plan", plan_markdown(plan), why)

    def show_result(self, result: Result, title: str) -> None:
        """Put a result beside the task run that it comes from, which is the one that calls this."""
        name = re.sub(r"[^a-z0-9]+", "-", result.subtask).strip("-")
        self._show(f"result-{name}", result_markdown(result), title)

    def _show(self, key: str, markdown: str, description: str) -> None:
        from prefect.utilities.context import get_task_and_flow_run_ids

        task_run, flow_run = get_task_and_flow_run_ids()
        row = {"key": key, "data": markdown, "description": description}
        self._rows.put(row | {"task_run_id": task_run, "flow_run_id": flow_run})

    def _send(self) -> None:
        rows, warned = self._waiting(), False
        if not rows:
            return  # a run without a graph, for which Prefect need not be imported
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactCreate

        with get_client(sync_client=True) as client:
            while rows:
                for row in rows:
                    try:
                        client.create_artifact(ArtifactCreate(type="markdown", **row))
                    except Exception as exc:  # the run does not depend on what its UI shows
                        if not warned:
                            self._notice(f"Prefect did not take the artifact {row['key']}: {exc}")
                        warned = True
                rows = self._waiting()

    def _waiting(self) -> list[dict[str, Any]]:
        """What is to be sent next, as soon as there is something; nothing at the end."""
        rows: list[dict[str, Any]] = []
        while not rows or not self._rows.empty():
            row = self._rows.get()
            if row is None:
                self._rows.put(None)  # the next time there is nothing else
                break
            rows.append(row)
        return rows if len(rows) <= MANY else together(rows)


def together(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Many artifacts as few: the versions of the plan, and one with the beginnings of all results."""
    plans = [dict(row) for row in rows if row["key"] == "plan"]
    results = [row for row in rows if row["key"] != "plan"]
    parts = []
    for row in results:
        text = row["data"]
        begun = text if len(text) <= TOGETHER_CHARS else f"{text[:TOGETHER_CHARS]}…\n````"
        parts.append(f"## {row['description']} ({row['key']})\n\n{begun}")
    if not parts:
        return plans
    summary = f"{len(results)} results, the last: {results[-1]['description']}"
    one = {"key": "results", "data": "\n\n".join(parts), "description": summary}
    return [*plans, one | {"task_run_id": None, "flow_run_id": results[-1]["flow_run_id"]}]


def plan_markdown(plan: Plan) -> str:
    rows = [
        f"| {s.id} | {s.title} | {s.kind} {s.role or ''} | {', '.join(s.tools)} | {', '.join(s.depends_on)} |"
        for s in plan.subtasks
    ]
    head = "| subtask | title | kind | tools | after |\n|---|---|---|---|---|"
    return "\n".join([f"# Plan, version {plan.version}", "", plan.goal, "", head, *rows])


def result_markdown(result: Result) -> str:
    files = f"\n\nFiles: {', '.join(result.files)}" if result.files else ""
    return f"````\n{as_text(result.value)[:MAX_CHARS]}\n````{files}"
