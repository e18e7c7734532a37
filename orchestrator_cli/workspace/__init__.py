"""A subtask is atomic on the workspace: checkout, work, then commit all of it or none.

A checkout is a private copy of the workspace (with shared blocks where the file system has
them) up to a stated size, and beyond it an overlay mount, which is no snapshot: see
`overlay`. A commit brings all that was changed in it into the workspace, or
nothing; a kill in its middle is made good by whoever opens the workspace next. What others
changed in the meantime is a `Conflict` and never overwritten. What a commit replaced is kept,
so that a run can be looked at and taken back.

Never copied and never committed: version control, environment files, orch's own files.
They may hold secrets or be executed by the host later.

What is not covered: two homes (`ORCH_HOME`) whose runs commit into one folder at the same instant are kept
apart by the comparison with what was there, and not by a lock; file systems whose clock is
coarser than the kernel's (FAT, some network file systems) may hide a change that follows
another within that time and keeps the size.
"""

from orchestrator_cli.workspace.checkout import Checkout
from orchestrator_cli.workspace.faults import Conflict, WorkspaceFault
from orchestrator_cli.workspace.folder import Workspace, check_folder

__all__ = ["Checkout", "Conflict", "Workspace", "WorkspaceFault", "check_folder"]
