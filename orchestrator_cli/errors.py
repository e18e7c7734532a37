"""Every way a run can end badly: one tree, each with its exit code and its remedy.

OrchError (1)
├── UsageError (2)            the command line, the prompt or the workspace
├── ConfigError (3)           no model, a broken file, no sandbox
├── ProviderError (4)         the model's provider: unreachable, 401, 429, 5xx, too late
│   └── ReplyUnusable (1)     it answered, but never with what was asked for
├── RunFailed (1)             the plan could not be made or carried out
│   └── NotApproved (1)       the user did not want the plan
├── LimitReached (5)          money, tokens, calls, revisions
├── ApprovalNeeded (6)        somebody has to say yes, and nobody is there
├── RunTimedOut (124)
└── Interrupted (130)
    └── Cancelled (130)       by the user, from another process

Errors of libraries are translated into these at one boundary each (`raise … from`); what
`memory` and `toolsmith` raise is translated where they are called. Nothing here is caught
to go on as if nothing had happened.
"""

from typing import ClassVar


class OrchError(Exception):
    """Something a user has to know: what happened, to which thing, and what to do next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n{self.remedy}" if self.remedy else self.message


class UsageError(OrchError):
    exit_code = 2


class ConfigError(OrchError):
    exit_code = 3


class ProviderError(OrchError):
    exit_code = 4


class ReplyUnusable(ProviderError):
    """The model answered, but not in the form that was asked for, however often it was told."""

    exit_code = 1


class RunFailed(OrchError):
    exit_code = 1


class NotApproved(RunFailed):
    """The user said no to what the run was about to do."""


class LimitReached(OrchError):
    exit_code = 5


class ApprovalNeeded(OrchError):
    exit_code = 6

    def __init__(self, message: str, remedy: str = "", approvals: tuple[str, ...] = ()) -> None:
        super().__init__(message, remedy)
        self.approvals = approvals
        """The ids of the questions."""


class RunTimedOut(OrchError):
    exit_code = 124


class Interrupted(OrchError):
    exit_code = 130


class Cancelled(Interrupted):
    """The user ended the run from another process, for good."""
