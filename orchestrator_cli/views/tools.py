"""Built tools for people and programs, as plain lines or JSON values. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orchestrator_cli.views.text import clean, counted, duration, one_line
from toolsmith.library.status import Tally

WIDE = 100


@dataclass(frozen=True)
class ToolRow:
    """A tool in one line."""

    name: str
    version: int
    versions: tuple[int, ...]
    state: str
    """`in use`, `disabled`, `quarantine`, `edited`, `unreadable` or `retired`."""
    why: tuple[str, ...] = ()
    """Reasons or failures behind the state, and what to do."""
    signature: str = ""
    purpose: str = ""
    permissions: str = ""
    created: datetime | None = None
    uses: Tally = field(default_factory=Tally)

    def as_json(self) -> dict[str, Any]:
        """Keys: `name`, `version` (the current one), `versions`, `state`, `why`, `signature`, `purpose`,
        `permissions`, `created`, `uses` (of that version).
        """
        created = self.created.isoformat() if self.created else None
        return {**vars(self), "created": created, "uses": _uses_json(self.uses)}


@dataclass(frozen=True)
class Trial:
    """The result of a trial."""

    passed: bool
    results: tuple[tuple[str, bool, str], ...]
    """Title, whether it passed, and what was wrong, of every case and property."""
    faults: tuple[str, ...] = ()
    """Why it was not run, or other faults."""


@dataclass(frozen=True)
class ToolPage:
    """Everything about one version."""

    row: ToolRow
    version: int
    folder: str
    sha256: str
    origin: str
    enforced: str
    """What its sandbox gives it at every call."""
    functions: tuple[tuple[str, str], ...]
    """Signature and documentation."""
    trial: Trial
    source: str
    tallies: tuple[tuple[int, Tally], ...]
    """By version, oldest first."""
    decisions: tuple[tuple[datetime, str], ...]
    """Decisions about the tool, oldest first."""

    def as_json(self) -> dict[str, Any]:
        """The keys of `orch tools list`, and `shown` (the version that the rest is about), `folder`,
        `sha256`, `origin`, `enforced`, `functions`, `trial`, `source`, `uses_by_version` and `decisions`.
        """
        return {
            **self.row.as_json(),
            "shown": self.version,
            "folder": self.folder,
            "sha256": self.sha256,
            "origin": self.origin,
            "enforced": self.enforced,
            "functions": [{"signature": signature, "doc": doc} for signature, doc in self.functions],
            "trial": trial_json(self.trial),
            "source": self.source,
            "uses_by_version": {str(version): _uses_json(uses) for version, uses in self.tallies},
            "decisions": [{"time": time.isoformat(), "what": what} for time, what in self.decisions],
        }


@dataclass(frozen=True)
class ToolReview:
    """What the library could do without."""

    unused: tuple[ToolRow, ...]
    overlaps: tuple[tuple[str, str, int], ...]
    """A tool, another that passes all its cases, and how many these are."""

    def as_json(self) -> dict[str, Any]:
        """Keys: `unused` (rows of `orch tools list`) and `overlaps` (`tool`, `served_by`, `cases`)."""
        pairs = [{"tool": tool, "served_by": by, "cases": cases} for tool, by, cases in self.overlaps]
        return {"unused": [row.as_json() for row in self.unused], "overlaps": pairs}


def review_lines(review: ToolReview, days: int) -> list[str]:
    """What was found, each with the command that does something about it."""
    lines = []
    for tool, by, cases in review.overlaps:
        lines += [
            f"{by} passes {'the case' if cases == 1 else f'all {cases} cases'} of {tool}.",
            f"    Have it serve in its place: orch tools retire {tool} --for {by}",
        ]
    pairs = {tool for tool, _, _ in review.overlaps}
    for row in review.unused:
        if row.name not in pairs:
            lines += [
                f"{row.name} was not used for {days} days: {uses_text(row.uses)}.",
                f"    It comes back when a plan needs it: orch tools retire {row.name}",
            ]
    return lines or ["Every tool was used lately, and none does what another does."]


def list_lines(rows: Sequence[ToolRow]) -> list[str]:
    """Three lines per tool: name, version, state and uses; the signature; what it does. More if it is not
    in use.
    """
    lines = []
    for row in rows:
        lines.append(f"{row.name} v{row.version}  {_state(row)}  {uses_text(row.uses)}".rstrip())
        lines += [f"    {one_line(row.signature, WIDE)}"] if row.signature else []
        lines += [f"    {one_line(row.purpose, WIDE)}"] if row.purpose else []
        if row.state != "in use":
            lines += [f"    {one_line(text, 2 * WIDE)}" for text in row.why]
    return lines


def uses_text(uses: Tally) -> str:
    """`12 calls, 2 failed, 0.3 s each`."""
    if not uses.calls:
        return "never called"
    parts = [counted(uses.calls, "call")]
    if uses.failures:
        parts.append(f"{uses.failures} failed")
    if uses.declined:
        parts.append(f"{uses.declined} declined")
    return ", ".join([*parts, f"{duration(uses.seconds / uses.calls)} each"])


def page_lines(page: ToolPage) -> list[str]:
    row = page.row
    counts = "" if page.version == row.version else f" (v{row.version} counts)"
    lines = [
        f"{row.name} v{page.version}{counts} · {_state(row)}",
        f"  purpose      {one_line(row.purpose, 4 * WIDE)}",
        f"  call         {one_line(row.signature, 4 * WIDE)}",
        f"  permissions  {one_line(row.permissions, 4 * WIDE)}",
        f"  enforced     at every call: {one_line(page.enforced, 4 * WIDE)}",
        f"  origin       {one_line(page.origin, 2 * WIDE)}",
        f"  created      {row.created:%Y-%m-%d %H:%M:%S %Z}".rstrip() if row.created else "  created      ?",
        f"  sha256       {page.sha256}",
        f"  files        {one_line(page.folder)}",
        f"  versions     {', '.join(f'v{number}' for number in row.versions)}",
    ]
    lines += [f"  because      {one_line(text, 2 * WIDE)}" for text in row.why]
    if page.tallies:
        lines += ["", "uses"]
        lines += [f"  v{version}  {uses_text(uses)}" for version, uses in page.tallies]
    if page.decisions:
        lines += ["", "decisions"]
        lines += [f"  {time:%Y-%m-%d %H:%M}  {one_line(what, 2 * WIDE)}" for time, what in page.decisions]
    if page.functions:
        lines += ["", "functions"]
    for signature, doc in page.functions:
        lines.append(f"  {one_line(signature, WIDE)}")
        lines += [f"      {one_line(doc, WIDE)}"] if doc else []
    lines += ["", "trial", *(f"  {line}" for line in trial_lines(page.trial))]
    return [*lines, "", *clean(page.source).rstrip("\n").split("\n")]


def trial_lines(trial: Trial) -> list[str]:
    """A line per case, with its fault below."""
    lines = [f"FAIL  {one_line(fault, 4 * WIDE)}" for fault in trial.faults]
    for title, passed, detail in trial.results:
        lines.append(f"{'ok  ' if passed else 'FAIL'}  {one_line(title, WIDE)}")
        lines += [f"      {one_line(detail, 4 * WIDE)}"] if detail else []
    return lines


def trial_json(trial: Trial) -> dict[str, Any]:
    return {
        "passed": trial.passed,
        "results": [
            {"title": title, "passed": passed, "detail": detail} for title, passed, detail in trial.results
        ],
        "faults": list(trial.faults),
    }


def _uses_json(uses: Tally) -> dict[str, Any]:
    last = uses.last.isoformat() if uses.last else None
    return {"calls": uses.calls, **vars(uses), "seconds": round(uses.seconds, 3), "last": last}


def _state(row: ToolRow) -> str:
    return "in use" if row.state == "in use" else row.state.upper()
