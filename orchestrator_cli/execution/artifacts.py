"""What the Prefect UI shows of a run besides its states: the plan and each result, as artifacts.

They are sent beside the work, in order, and the last ones beside the answer: a subtask whose result is
committed is done, and nobody waits until its picture hangs. One that Prefect does not take is a notice and
harms nothing else.
"""

import queue
import re
import threading
from collections.abc import Callable
from typing import Any

from orchestrator_cli.planning.answer import as_text
from orchestrator_cli.planning.plan import Plan, Result

MAX_CHARS = 20_000
CLOSING_S = 30.0
"""The longest that the end of a run waits for the last ones to be sent."""


class Artifacts:
    """The artifacts of one flow run. Leaving it waits until they are sent.

    `notice` is told once, of the first that could not be sent.
    """

    def __init__(self, notice: Callable[[str], None]) -> None:
        self._notice = notice
        self._rows: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._send, name="orch: artifacts", daemon=True)
        self._starting = threading.Lock()

    def __enter__(self) -> "Artifacts":
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.ident is not None:
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
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()

    def _send(self) -> None:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactCreate

        told = False
        with get_client(sync_client=True) as client:
            while (row := self._rows.get()) is not None:
                try:
                    client.create_artifact(ArtifactCreate(type="markdown", **row))
                except Exception as exc:  # the run does not depend on what its UI shows
                    if not told:
                        self._notice(f"Prefect did not take the artifact {row['key']}: {exc}")
                    told = True


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
