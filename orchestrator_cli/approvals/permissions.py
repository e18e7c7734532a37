"""Permissions that a plan or a tool needs from the user: domains, secrets by name, packages of the index.

What the settings allow needs no question. For the rest the broker asks one question for the domains, one
for the secrets and one for the packages. All three are recorded.

An allowed secret is read from the environment, and masked from then on in everything that the run keeps,
shows or sends to a model. Allowed packages are installed for that tool alone.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from orchestrator_cli.approvals.broker import Question, approval_needed, own_words, wish
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.durable.text import listed
from orchestrator_cli.environment import package_index, read_secret
from orchestrator_cli.errors import RunFailed
from orchestrator_cli.events import ApprovalGiven, Asked
from orchestrator_cli.journal.redaction import Redactor
from orchestrator_cli.plan import Subtask, whole_name
from orchestrator_cli.settings import Settings
from orchestrator_cli.subprocesses.command import run_command
from toolsmith.built import BuiltTool
from toolsmith.errors import PackagesUnavailable, PermissionRefused
from toolsmith.packages import PATIENCE_S, Packages, ProgramResult
from toolsmith.permissions import Installation, PackageLock, Permissions, package_name
from toolsmith.sandbox.proxy import Dialer, Grant, grants_of_setting, parse_grants, plain_grant
from toolsmith.spec import ToolSpec, given_at_calls


class NotAllowed(RunFailed):
    """A subtask was refused a permission of its plan; a retry would change nothing."""


class QuestionSink(Protocol):
    """What answers questions, such as `ApprovalBroker`."""

    def needs(self, what: Asked) -> bool:
        """Whether a person is asked about this kind of thing."""

    def ask(self, question: Question, cancellation: Cancellation) -> ApprovalGiven:
        """Wait for the answer. Raises `ApprovalNeeded` if no person is attached."""

    def request(self, question: Question) -> ApprovalGiven | None:
        """The answer if there is one; otherwise the question is open."""

    def resolve(self, question: Question) -> ApprovalGiven:
        """Answer yes because the settings allow it; recorded once."""

    def is_answered(self, id_: str) -> bool:
        """Whether the question with this id was answered in this run."""


class PermissionGate:
    """The permissions of one run. Every method may be called from any thread."""

    def __init__(
        self,
        broker: QuestionSink,
        settings: Settings,
        *,
        masks: Redactor,
        cancellation: Cancellation,
        notice: Callable[[str], None] = lambda _: None,
        dialer: Dialer = Dialer(),  # noqa: B008  (frozen)
    ) -> None:
        """
        Args:
            cancellation: the run's, for calls without one of their own.
            notice: says what stops nothing.
            dialer: resolves and checks the addresses of granted domains.
        """
        self._broker = broker
        self._settings = settings
        self._masks = masks
        self._notice = notice
        self._cancellation = cancellation
        self._packages = Packages(settings.home / "tools" / ".packages")
        self._locks: dict[tuple[str, ...], PackageLock] = {}
        """By what was asked for, so that all attempts of a run have the same versions."""
        self._noticed: set[str] = set()
        """The subtasks whose versions have been said."""
        self._resolving = threading.Lock()
        self.dialer = dialer

    def public_address(self, host: str, port: int) -> str:
        """The address that a hand-written tool connects to for a host. Raises `ValueError`."""
        try:
            addresses = self.dialer.resolve(host, port)
        except OSError as exc:
            raise ValueError(f"{host} cannot be resolved: {exc}") from exc
        if not addresses or not all(map(self.dialer.allowed, addresses)):
            raise ValueError(f"{host} resolves to an address that is not public")
        return addresses[0]

    def network_for(self, subtask: Subtask) -> tuple[str, ...]:
        """The domains that an attempt may reach.

        Raises `NotAllowed`, and `ApprovalNeeded` at once if the question is open, so that a waiting
        subtask takes no slot from others.
        """
        if not subtask.network:
            return ()
        try:
            left = self._uncovered(subtask.network)
            wanted = listed(tuple(map(plain_grant, subtask.network)))
        except ValueError as exc:
            raise NotAllowed(str(exc)) from exc
        name = whole_name(subtask.id)  # one question for all instances
        question = Question(
            what="network",
            subject=name,
            question=_wish(subtask, f"to reach {wanted}"),
        )
        self._grant(question, wanted, left)
        return subtask.network

    def packages_for(self, subtask: Subtask) -> Installation | None:
        """The packages that the code of an attempt may import; installed if they are missing.

        Raises what `network_for` does, and `PackagesUnavailable`.
        """
        if not subtask.packages:
            return None
        name, wanted = whole_name(subtask.id), listed(subtask.packages)
        question = Question(
            what="packages",
            subject=name,
            question=_wish(subtask, _of_the_index(subtask.packages)),
            details="The packages and what they need are installed for it and run in its sandbox only.",
            sense=f"has {listed(sorted(subtask.packages))}",
        )
        self._grant(question, wanted, self._unknown(subtask.packages))
        installed = self._installed(subtask.packages, PackageLock(), None)
        with self._resolving:
            is_first = name not in self._noticed
            self._noticed.add(name)
        if is_first:
            self._notice(f"Code of `{name}` can import {listed(installed.lock.versions)}.")
        return installed

    def _grant(self, question: Question, wanted: str, left: Sequence[str]) -> None:
        """`left`: what the settings do not allow. Raises `NotAllowed` and `ApprovalNeeded`."""
        if not self._settled(question, left):
            given = self._broker.request(question)
            if given is None:
                raise approval_needed([question])
            if given.decision == "no":
                raise NotAllowed(f"the user did not allow {wanted}{given.reason}")

    def permit_search(self, subtask: Subtask, service: str, cancellation: Cancellation) -> None:
        """Wait for the permission to search the web; the setting `search` gives it.

        Raises `PermissionRefused` and `ApprovalNeeded`.
        """
        wanted, details = f"search the web with {service}", "What it searches for is sent there."
        left = [] if self._settings.search else [service]
        self._permit(subtask, wanted, details, left, cancellation)

    def permit_site(self, subtask: Subtask, host: str, title: str, cancellation: Cancellation) -> None:
        """Wait for the permission to read a site that a search has found.

        Raises `PermissionRefused` and `ApprovalNeeded`.
        """
        wanted, details = f"reach {host}, which its search found", f"The page is called: {title}"
        self._permit(subtask, wanted, details, [host], cancellation)

    def _permit(
        self, subtask: Subtask, wanted: str, details: str, left: Sequence[str], cancellation: Cancellation
    ) -> None:
        """`left`: what the settings do not allow."""
        name = whole_name(subtask.id)
        question = Question(
            what="network",
            subject=name,
            question=_wish(subtask, f"to {wanted}"),
            details=details,
            sense=wanted,
        )
        if not self._settled(question, left):
            given = self._broker.ask(question, cancellation)
            if given.decision == "no":
                raise PermissionRefused(_refusal(left, given))

    def permit_tool(
        self,
        spec: ToolSpec,
        cancellation: Cancellation | None = None,
        lock: PackageLock = PackageLock(),  # noqa: B008  (frozen)
        *,
        version: BuiltTool | None = None,
    ) -> Permissions:
        """Wait for the permissions that a tool needs. Its packages are those of `lock`, if it has any.

        `version`: the one that asks, and the only one that gets them; None while it is being built.
        Raises `PermissionRefused`, `PackagesUnavailable` and `ApprovalNeeded`.
        """
        values = {name: _value(name) for name in spec.secrets}
        for question, things, open_ones in self._questions(spec, version):
            if things and not self._settled(question, open_ones):
                given = self._broker.ask(question, cancellation or self._cancellation)
                if given.decision == "no":
                    raise PermissionRefused(_refusal(things, given))
        for name, value in values.items():
            self._masks.add(name, value)
        installed = self._installed(spec.packages, lock, cancellation) if spec.packages else None
        return Permissions(spec.network, values, installed)

    def _installed(
        self, packages: tuple[str, ...], lock: PackageLock, cancellation: Cancellation | None
    ) -> Installation:
        """`lock`: that of an earlier installation, if there was one."""
        too_long = PackagesUnavailable(
            f"the package index took longer than {PATIENCE_S:g} s; try again later"
        )
        with (cancellation or self._cancellation).limited(PATIENCE_S, lambda: too_long) as limited:

            def run(argv: Sequence[str], given: str) -> ProgramResult:
                # In the root folder no file of a workspace can configure uv.
                return run_command(
                    argv, cwd=Path("/"), given=given, env=package_index(), cancellation=limited
                )

            with self._resolving:  # all items of a for_each ask at once for the same
                if not lock.lines:
                    lock = self._locks.get(packages) or self._packages.resolve(packages, run)
                    self._locks[packages] = lock
            return self._packages.ensure(lock, run)

    def permit_use(self, tool: BuiltTool, cancellation: Cancellation | None = None) -> None:
        """Ask the person to review a tool's code. Raises `PermissionRefused` and `ApprovalNeeded`."""
        if not self._broker.needs("tools"):
            return
        given = self._broker.ask(_use_of(tool), cancellation or self._cancellation)
        if given.decision == "no":
            raise PermissionRefused(f"the user did not allow it{given.reason}")

    def may_use(self, tool: BuiltTool) -> bool:
        """Whether `permit_use` would ask nothing: its code needs no review, or was reviewed in this run."""
        return not self._broker.needs("tools") or self._broker.is_answered(_use_of(tool).id)

    def _questions(
        self, spec: ToolSpec, version: BuiltTool | None
    ) -> Iterator[tuple[Question, Sequence[str], Sequence[str]]]:
        """For each question about a tool: the question, its items, and those the settings do not allow."""
        of = f" as {version.fingerprint}" if version is not None else ""
        reach = Question(
            what="network",
            subject=spec.name,
            question=_wish(spec, f"to reach {listed(spec.network)}", version),
            sense=f"reaches {listed(sorted(spec.network))}{of}",
        )
        yield reach, spec.network, self._uncovered(spec.network)
        given = Question(
            what="secrets",
            subject=spec.name,
            question=_wish(spec, f"to be given {listed(spec.secrets)} from your environment", version),
            details=f"It can send it to {listed(spec.network) or 'no host: it has no network'}.",
            sense=f"{listed(sorted(spec.secrets))} to {listed(sorted(spec.network))}{of}",
        )
        yield given, spec.secrets, [name for name in spec.secrets if name not in self._settings.secrets]
        brought = Question(
            what="packages",
            subject=spec.name,
            question=_wish(spec, _of_the_index(spec.packages), version),
            details="The packages and what they need are installed for it and run in its sandbox only.",
            sense=f"has {listed(sorted(spec.packages))}{of}",
        )
        yield brought, spec.packages, self._unknown(spec.packages)

    def _unknown(self, packages: Sequence[str]) -> list[str]:
        known = {package_name(name) for name in self._settings.packages}
        return [each for each in packages if package_name(each) not in known]

    def _uncovered(self, domains: Sequence[str]) -> list[str]:
        grants = zip(domains, parse_grants(domains), strict=True)
        return [domain for domain, grant in grants if not covered(grant, self._settings.network)]

    def _settled(self, question: Question, left: Sequence[str]) -> bool:
        """Whether the settings allow everything; records that."""
        if left:
            return False
        self._broker.resolve(question)
        return True


def covered(grant: Grant, domains: Sequence[str]) -> bool:
    """Whether the setting `network`, these domains and their subdomains, allows all of a grant.

    It never allows ports other than those of HTTP.
    """
    allowed = grants_of_setting(domains)
    return any(all(each.covers(grant.domain, port) for port in grant.ports) for each in allowed)


def _wish(who: Subtask | ToolSpec, wanted: str, version: BuiltTool | None = None) -> str:
    if isinstance(who, Subtask):
        return wish(f"The subtask `{whole_name(who.id)}`", wanted, who.title)
    number = f" (version {version.version})" if version is not None else ""
    return wish(f"The tool `{who.name}`{number}", wanted, who.purpose)


def _use_of(tool: BuiltTool) -> Question:
    return Question(
        what="tools",
        subject=tool.name,
        question=f"Use the tool `{tool.name}` (version {tool.version})? It gets {given_at_calls(tool.spec)}. "
        f"{own_words(tool.spec.purpose)}",
        details=tool.source,
        sense=tool.fingerprint,
    )


def _of_the_index(packages: Sequence[str]) -> str:
    wanted = "the package" if len(packages) == 1 else "the packages"
    return f"{wanted} {listed(packages)} of the package index"


def _refusal(things: Sequence[str], given: ApprovalGiven) -> str:
    return f"the user did not allow {listed(things)}{given.reason}"


def _value(name: str) -> str:
    """The value of a secret. Raises `PermissionRefused` if it is missing or too short to mask."""
    value = read_secret(name)
    if value is None:
        raise PermissionRefused(f"the secret {name} is not there: set {name} in the environment")
    try:
        Redactor().add(name, value)
    except ValueError as exc:
        raise PermissionRefused(str(exc)) from exc
    return value
