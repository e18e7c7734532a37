"""What memory could keep: questions that are asked again and again, for their user to decide."""

from collections.abc import Callable

from memory import FACT, RUN, MemoryFault, Scope
from memory.repeated import AskedAgain, asked_again
from orchestrator_cli.errors import RunFailed
from orchestrator_cli.recall.run_memory import open_memory
from orchestrator_cli.recall.sessions import workspace_scope
from orchestrator_cli.settings import Settings


def questions_asked_again(settings: Settings, warn: Callable[[str], None]) -> tuple[AskedAgain, ...]:
    """Those of the workspace. Raises `OrchError`."""
    here = workspace_scope(settings.workspace)
    try:
        with open_memory(settings, warn).opened() as memory:
            runs = memory.all(RUN, Scope(user=here.user))
            facts = memory.all(FACT, here)
    except MemoryFault as exc:
        raise RunFailed(f"The memory cannot be read: {exc}") from exc
    return asked_again((run for run in runs if run.data.get("workspace") == here.project), facts)
