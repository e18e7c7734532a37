"""What the Prefect UI shows of a run besides its states: the plan and each result, as artifacts."""

from orchestrator_cli.planning.answer import as_text
from orchestrator_cli.planning.plan import Plan, Result

MAX_CHARS = 20_000


def show_plan(plan: Plan, why: str) -> None:
    """Put a version of the plan beside the flow run."""
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(key="plan", markdown=plan_markdown(plan), description=why)


def show_result(result: Result, title: str) -> None:
    """Put a result beside the task run it came from."""
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(
        key=f"result-{result.subtask.replace('_', '-')}",
        markdown=result_markdown(result),
        description=title,
    )


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
