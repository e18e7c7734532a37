"""What the orchestrator remembers between runs.

    store = open_store(folder)                       # or open_store(folder, url="http://localhost:6333")
    store.add([run_record(...), tool_record(...)])
    recalled = recall(store, prompt, scope=Scope(project="my-project"))

Remembered are finished runs and built tools, the turns of conversations by session (`conversation`), and
facts about the user (`facts`, `profile`). Documents of the user have a store of their own, see `knowledge`.
Whoever has a model of embeddings gets what it finds beside the words, see `dense`.

Importing this package loads neither of Qdrant's libraries; opening a store loads the one it needs.
"""

from collections.abc import Callable
from pathlib import Path

from memory.dense import Dense
from memory.distiller import run_record, scrub, tool_record
from memory.embedder import DenseVector
from memory.errors import EmbeddingFailed, MemoryBusy, MemoryFault, MemoryUnavailable
from memory.recall import Recalled, RecalledRun, RecalledTool, recall
from memory.records import (
    CHUNK,
    FACT,
    RUN,
    SESSION,
    TOOL,
    TURN,
    USAGE,
    At,
    Hit,
    Place,
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
    "Place",
    "Query",
    "Recalled",
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
    """The memory in the folder `path`, or on the Qdrant server at `url` when one is given.

    `warn` is told, in one sentence, when something unreadable had to be put aside (folder only); without
    it the sentence goes to the log. Raises `MemoryUnavailable`.
    """
    if url is not None:
        from memory.server import ServerStore

        return ServerStore(url, api_key)
    from memory.edge import EdgeStore

    return EdgeStore(path, warn=warn) if warn else EdgeStore(path)
