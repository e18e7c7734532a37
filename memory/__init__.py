"""Memory: what the orchestrator remembers between runs.

    store = open_store(folder)                       # or open_store(folder, url="http://localhost:6333")
    store.add([run_record(...), tool_record(...)])
    recalled = recall(store, prompt, scope=Scope(project="my-project"))

It keeps finished runs and built tools, the messages of conversations (`sessions`), and facts about the user
(`facts`, `profile`). The user's documents have a store of their own, see `knowledge`. With a model of
embeddings, records are also found by meaning, see `dense`.

Importing this package loads none of Qdrant's libraries; opening a store loads the one it needs.
"""

from collections.abc import Callable
from pathlib import Path

from memory.dense import Dense
from memory.distiller import run_record, scrub, tool_record
from memory.embedder import DenseVector
from memory.recall import RecalledRun, RecalledTool, RecallResult, recall
from memory.records import (
    CHUNK,
    FACT,
    RUN,
    SESSION,
    TOOL,
    TURN,
    USAGE,
    At,
    EmbeddingFailed,
    Hit,
    MemoryBusy,
    MemoryFault,
    MemoryUnavailable,
    Position,
    Record,
    Scope,
    Source,
    Trust,
    record_id,
)
from memory.store import Memory, MemoryStore, Query

__all__ = [
    "CHUNK",
    "FACT",
    "RUN",
    "SESSION",
    "TOOL",
    "TURN",
    "USAGE",
    "At",
    "Dense",
    "DenseVector",
    "EmbeddingFailed",
    "Hit",
    "Memory",
    "MemoryBusy",
    "MemoryFault",
    "MemoryStore",
    "MemoryUnavailable",
    "Position",
    "Query",
    "RecallResult",
    "RecalledRun",
    "RecalledTool",
    "Record",
    "Scope",
    "Source",
    "Trust",
    "open_store",
    "recall",
    "record_id",
    "run_record",
    "scrub",
    "tool_record",
]


def open_store(
    path: Path,
    *,
    url: str | None = None,
    api_key: str | None = None,
    warn: Callable[[str], None] | None = None,
) -> MemoryStore:
    """Open the memory in the folder `path`, or on the Qdrant server at `url` if one is given.

    `warn` receives one sentence if something unreadable had to be put aside (folder only); by default the
    sentence is logged. Raises `MemoryUnavailable`.
    """
    if url is not None:
        from memory.server import ServerStore

        return ServerStore(url, api_key)
    from memory.edge import EdgeStore

    return EdgeStore(path, warn=warn) if warn else EdgeStore(path)
