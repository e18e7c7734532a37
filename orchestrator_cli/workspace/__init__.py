"""A subtask changes the workspace in one step: checkout, work, then commit all of it or nothing.

A checkout is a private copy of the workspace (with shared blocks if the file system has
them) up to a set size, and beyond it an overlay mount, which is not a snapshot: see
`overlay`. A commit moves every change of a checkout into the workspace, or none; the next process
to open the workspace completes or reverts a commit that a kill interrupted. Changes that others
made meanwhile are a `Conflict` and are never overwritten. The content that a commit replaces is
kept, so that `orch diff` and `orch undo` work later.

Never copied and never committed: version control, environment files, credentials, orch's own files.
What the host or another program executes or obeys later is committed only if a person agrees. A
commit has no set-id bits, nothing that everyone may write, and a limit of files and bytes.

Not covered: runs of two homes (`ORCH_HOME`) that commit into one folder at the same instant are
protected by the comparison of file states, but not by a lock; on file systems whose clock is
coarser than the kernel's (FAT, some network file systems), a change may go unnoticed if it
follows another within one tick and keeps the size.
"""

from orchestrator_cli.errors import Conflict, WorkspaceFault
from orchestrator_cli.workspace.checkout import Checkout
from orchestrator_cli.workspace.commit import CommitLimits
from orchestrator_cli.workspace.folder import Workspace
from orchestrator_cli.workspace.usable import check_folder

__all__ = ["Checkout", "CommitLimits", "Conflict", "Workspace", "WorkspaceFault", "check_folder"]
