"""What the Prefect UI shows of a run besides its states: the plan and each result, as artifacts.

Prefect is slow with each artifact. If many wait, as in a plan of hundreds of quick subtasks, those results
go together as one.

Prefect's page renders Markdown with HTML in it, so that a link of a model's could cover the whole page. Words
of others are escaped, and values are in code blocks.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator_cli.durable.foreign import on_one_line
from orchestrator_cli.durable.markdown_text import escaped
from orchestrator_cli.plan import Plan, Result
from orchestrator_cli.planning.answer import as_text

MAX_CHARS = 20_000
TOGETHER_CHARS = 1_000
"""Of each result, where they are sent together."""
MANY = 40
"""More results than these that wait are sent as one artifact."""


class Artifacts:
    """The artifacts of one flow run. `put` adds the row of one to what Prefect's server is sent."""

    def __init__(self, put: Callable[[dict[str, Any]], None]) -> None:
        self._put = put

    def show_plan(self, plan: Plan, why: str) -> None:
        """Put a version of the plan beside the flow run."""
        self._show("plan", plan_markdown(plan), why)

    def show_result(self, result: Result, title: str) -> None:
        """Put a result beside the task run that it comes from, which is the one that calls this."""
        name = re.sub(r"[^a-z0-9]+", "-", result.subtask).strip("-")
        self._show(f"result-{name}", result_markdown(result), title)

    def _show(self, key: str, markdown: str, description: str) -> None:
        from prefect.utilities.context import get_task_and_flow_run_ids

        task_run, flow_run = (str(one) if one else None for one in get_task_and_flow_run_ids())
        row = {"key": key, "type": "markdown", "data": markdown, "description": _words(description)}
        self._put(row | {"task_run_id": task_run, "flow_run_id": flow_run})


def together(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Many artifacts as few: the versions of the plan, and one with the beginnings of all results."""
    plans = [dict(row) for row in rows if row["key"] == "plan"]
    results = [row for row in rows if row["key"] != "plan"]
    parts = []
    for row in results:
        text = row["data"]
        fence = text[: len(text) - len(text.lstrip("`"))]
        limit = TOGETHER_CHARS + len(fence)
        begun = text if len(text) <= limit else f"{text[:limit]}…\n{fence}"
        parts.append(f"## {row['description']} ({row['key']})\n\n{begun}")
    if not parts:
        return plans
    summary = f"{len(results)} results, the last: {results[-1]['description']}"
    one = {"key": "results", "data": "\n\n".join(parts), "description": summary}
    return [*plans, one | {"task_run_id": None, "flow_run_id": results[-1]["flow_run_id"]}]


def plan_markdown(plan: Plan) -> str:
    head = ("subtask", "title", "kind", "tools", "after")
    rows = [
        (s.id, s.title, f"{s.kind} {s.role or ''}", ", ".join(s.tools), ", ".join(s.depends_on))
        for s in plan.subtasks
    ]
    lines = [f"| {' | '.join(map(_words, row))} |" for row in (head, *rows)]
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join([f"# Plan, version {plan.version}", "", _words(plan.goal), "", *lines])


def _words(text: str) -> str:
    return escaped(on_one_line(text).strip())


def result_markdown(result: Result) -> str:
    files = f"\n\nFiles: {', '.join(map(_words, result.files))}" if result.files else ""
    text = as_text(result.value)[:MAX_CHARS]
    # Longer than any run of backticks in it, which would end it.
    fence = "`" * max(4, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}{files}"
