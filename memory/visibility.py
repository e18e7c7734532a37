"""Which records a user sees from where: one rule, for what runs are shown and for the user's commands.

    sees(scope, record)                 # pure
    search_visible(memory, query)       # as `memory.search`, by that rule

A user sees no record of another one. From a workspace they see what belongs to it and what belongs to none:

    record                              belongs to
    fact about the user, tool, usage    no workspace
    fact about the project              the workspace where it was said
    turn, session                       the workspace of the conversation
    run                                 the workspace that it worked in
    source, document, chunk             the workspace that it was added for, or none

A scope without a project sees everything of its user.
"""

from dataclasses import replace

from memory.records import RUN, Hit, Record, Scope
from memory.store import Memory, Query


def workspace_of(record: Record) -> str | None:
    """The workspace that a record belongs to; None if it belongs to none, empty if that is not known."""
    if record.kind == RUN and record.scope.project is None:
        # A run has one id wherever it worked, so that feedback finds it.
        return str(record.data.get("workspace") or "")
    return record.scope.project


def sees(scope: Scope, record: Record) -> bool:
    """Whether the record is seen from the scope, a user in a workspace or in all of them."""
    if record.scope.user != scope.user:
        return False
    return scope.project is None or workspace_of(record) in (None, scope.project)


MOST_FETCHED = 2_000
"""So many hits are looked through; what is below them is hardly like the query."""


def search_visible(memory: Memory, query: Query) -> list[Hit]:
    """The hits that are seen from the query's scope, best first. Raises what the store raises."""
    fetched = query.limit
    while True:
        found = memory.search(replace(query, limit=fetched))
        hits = [hit for hit in found if sees(query.scope, hit.record)]
        if len(hits) >= query.limit or len(found) < fetched or fetched >= MOST_FETCHED:
            return hits[: query.limit]
        # Runs of other workspaces were among them: fetch more to replace them.
        fetched *= 4
