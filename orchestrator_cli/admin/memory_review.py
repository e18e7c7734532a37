"""What memory could keep: questions that are asked again and again, for their user to decide."""

from collections.abc import Callable

from memory import FACT, RUN, MemoryFault
from memory.repeated import AskedAgain, asked_again
from memory.visibility import workspace_of
from orchestrator_cli.errors import RunFailed
from orchestrator_cli.recall.run_memory import open_memory
from orchestrator_cli.recall.scopes import own_scope
from orchestrator_cli.settings import Settings


def questions_asked_again(settings: Settings, warn: Callable[[str], None]) -> tuple[AskedAgain, ...]:
    """Those of the workspace. Raises `OrchError`."""
    here = own_scope(settings)
    try:
        with open_memory(settings, warn).opened() as memory:
            runs = memory.all(RUN, here.user_wide)
            facts = memory.all(FACT, here)
    except MemoryFault as exc:
        raise RunFailed(f"The memory cannot be read: {exc}") from exc
    return asked_again((run for run in runs if workspace_of(run) == here.project), facts)
