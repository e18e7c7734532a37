"""All errors of `orchestrator_cli`: those that end a command, and those that a run deals with itself.

OrchError (1)                 shown to the user, with a remedy; the number is the exit code
├── UsageError (2)            the command line, the prompt or the workspace
├── ConfigError (3)           no model, a broken file, no sandbox
│   └── HomeReplaced (3)      the data folder is not the one that the run began with
├── StorageFault (3)          the disk is full, read-only or broken; decides nothing about the work
├── ProviderError (4)         the model's provider: unreachable, 401, 429, 5xx, too slow
│   ├── RequestRefused (4)    this one request: too long, filtered, a parameter that it does not take
│   └── ReplyUnusable (1)     it answered, but never in the form asked for
├── RunFailed (1)             the plan could not be made or carried out
│   └── NotApproved (1)       the user rejected the plan
├── LimitReached (5)          money, tokens, calls, revisions
├── ApprovalNeeded (6)        a question needs a person, and none is there
├── AnswerMisfit (7)          the answer does not fit the schema that the user gave
├── RunTimedOut (124)
└── Interrupted (130)
    └── Cancelled (130)       by the user, from another process

RecoverableError              retried, returned to the model, or turned into an OrchError
├── Conflict                  a commit found files that others changed
├── WorkspaceFault            the workspace cannot be read or written
├── TargetChanged             a path changed in the middle of a commit
└── …                         the other classes are beside the code that raises them

Errors of libraries are translated into these at one boundary each (`raise … from`); errors of
`memory` and `toolsmith` are translated where those packages are called. Errors of the machine's storage are
translated by `storage_faults`, through whatever was raised from them.
"""

import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal

from orchestrator_cli.durable.foreign import foreign_line
from orchestrator_cli.durable.storage import free_bytes, mount_of, storage_error, unwritable

Concern = Literal["attempt", "subtask", "provider", "run"]


class OrchError(Exception):
    """Ends a command. Says what happened, to which thing, and what to do next."""

    exit_code: ClassVar[int] = 1
    concerns: ClassVar[Concern] = "run"
    """What it ends if it comes out of an attempt at a subtask:

    attempt     this attempt; the next one may do better
    subtask     this subtask; each attempt would meet the same
    provider    this attempt; what failed for no other reason is done again when the run is resumed
    run         the run
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        """`message` becomes one line: it may quote a file or a server. Each line of `remedy` is one too."""
        super().__init__(message)
        self.message = foreign_line(message)
        self.remedy = "\n".join(map(foreign_line, remedy.split("\n")))

    def __str__(self) -> str:
        return f"{self.message}\n{self.remedy}" if self.remedy else self.message


class UsageError(OrchError):
    exit_code = 2


class ConfigError(OrchError):
    exit_code = 3


class HomeReplaced(ConfigError):
    """The path of the data folder leads to another one than at the start. Nothing more is written there."""


class StorageFault(OrchError):
    """The machine's storage cannot be used: full, read-only or broken. Says nothing about the work."""

    exit_code = 3

    @classmethod
    def of(cls, error: OSError) -> "StorageFault":
        """Names the path, its file system, and what has to be done there."""
        path, where, state = str(error.filename or ""), "the disk", ""
        if path.startswith("/"):
            mount = mount_of(Path(path))
            where = f"the file system {mount}"
            free = f", {free_bytes(mount) >> 20:,} MB free" if error.errno == errno.ENOSPC else ""
            state = f" ({where}{free})"
        return cls(
            f"{path or 'The disk'} cannot be used: {error.strerror or error}{state}.",
            f"{_STORAGE_REMEDIES.get(error.errno or 0, _ANY_STORAGE_REMEDY).format(where)}.",
        )


_STORAGE_REMEDIES = {
    errno.ENOSPC: "Free some space on {}",
    errno.EDQUOT: "Free some of your quota on {}",
    errno.EROFS: "Make {} writable again",
    errno.EACCES: "Allow writing there",
    errno.EPERM: "Name a place that can be written to",
    errno.ENOENT: "Name a place that can be written to",
    errno.ENOTDIR: "Name a place that can be written to",
    errno.EFBIG: "Raise the limit on the size of a file (ulimit -f)",
}
_ANY_STORAGE_REMEDY = "Check the device of {}"


def storage_fault(exc: BaseException, *folders: Path) -> StorageFault | None:
    """The fault of the machine's storage that an error comes from; None if it is the work's, or another's.

    `folders`: if one of them takes nothing now, that is the cause of what failed.
    """
    if isinstance(exc, StorageFault):
        return exc
    error = storage_error(exc)
    if error is None and not isinstance(exc, OrchError):
        error = unwritable(folders)
    return StorageFault.of(error) if error is not None else None


def place_fault(exc: OSError) -> StorageFault | None:
    """As `storage_fault`, also for a place that cannot be used, such as one in `/sys`: for an error that ends
    a command, whatever it was about."""
    is_place = exc.errno in _STORAGE_REMEDIES and str(exc.filename or "").startswith("/")
    return storage_fault(exc) or (StorageFault.of(exc) if is_place else None)


@contextmanager
def storage_faults(*folders: Path) -> Iterator[None]:
    """Raise `StorageFault` instead of an error that is one: see `storage_fault`."""
    try:
        yield
    except Exception as exc:
        fault = storage_fault(exc, *folders)
        if fault is None or fault is exc:
            raise
        raise fault from exc


class ProviderError(OrchError):
    exit_code = 4
    concerns: ClassVar[Concern] = "provider"
    unsure = False
    """Whether the provider may have answered in part, and may bill it."""


class RequestRefused(ProviderError):
    """The provider can be asked, but not this: the request or its reply is the reason."""

    concerns = "attempt"

    def __init__(self, message: str, remedy: str = "", *, unsure: bool = False) -> None:
        super().__init__(message, remedy)
        self.unsure = unsure


class ReplyUnusable(ProviderError):
    """The model answered, but not in the form asked for, in any of its attempts."""

    exit_code = 1
    concerns = "attempt"


class RunFailed(OrchError):
    exit_code = 1
    concerns = "subtask"


class RunStopped(RunFailed):
    """The reviser or the plan ended the run before its end."""


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


class AnswerMisfit(OrchError):
    """The answer does not fit its JSON Schema, in any of the model's attempts."""

    exit_code = 7


class RunTimedOut(OrchError):
    exit_code = 124


class Interrupted(OrchError):
    exit_code = 130


class Cancelled(Interrupted):
    """The user ended the run from another process, for good."""


def concern_of(outcome: object) -> Concern:
    """What an outcome of an attempt ends, if it is an error; any but an `OrchError` ends the attempt."""
    return outcome.concerns if isinstance(outcome, OrchError) else "attempt"


class RecoverableError(Exception):
    """Does not end a run by itself, and has no exit code; its text is a reason without a remedy.

    Not an `OrchError`, because that ends the attempt, the run and the command that it passes through.
    """


class Conflict(RecoverableError):
    """A subtask changed files that were changed in the workspace while it worked."""

    def __init__(self, paths: Iterable[str], by: Mapping[str, str] | None = None) -> None:
        """`by`: the subtask of this run that committed a path, if one did."""
        self.paths = list(paths)
        self.by = dict(by or {})
        named = (f"{p} (committed by {self.by[p]})" if p in self.by else p for p in self.paths)
        super().__init__(f"{', '.join(named)} changed in the workspace while the subtask worked on it")


class WorkspaceFault(RecoverableError):
    """The workspace or a checkout cannot be read or written as needed. Nothing was changed."""


class TargetChanged(RecoverableError):
    """A path was changed in the middle of a commit."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path
