"""Memory: what the orchestrator remembers between runs.

    store = open_store(folder)                       # or open_store(folder, url="http://localhost:6333")
    store.add([run_record(...), tool_record(...)])
    recalled = recall(store, prompt, scope=Scope(project="my-project"))

It keeps finished runs and built tools, the messages of conversations (`sessions`), and facts about the user
(`facts`, `profile`). The user's documents have a store of their own, see `knowledge`. With a model of
embeddings, records are also found by meaning, see `dense`.

Importing this package loads none of Qdrant's libraries; opening a store loads the one it needs.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from memory.dense import Dense as Dense
from memory.distiller import run_record as run_record
from memory.distiller import scrub as scrub
from memory.distiller import tool_record as tool_record
from memory.embedder import DenseVector as DenseVector
from memory.recall import RecalledRun as RecalledRun
from memory.recall import RecallResult as RecallResult
from memory.recall import recall as recall
from memory.records import CHUNK as CHUNK
from memory.records import FACT as FACT
from memory.records import RUN as RUN
from memory.records import SESSION as SESSION
from memory.records import TOOL as TOOL
from memory.records import TURN as TURN
from memory.records import USAGE as USAGE
from memory.records import At as At
from memory.records import EmbeddingFailed as EmbeddingFailed
from memory.records import Hit as Hit
from memory.records import MemoryAway as MemoryAway
from memory.records import MemoryBusy as MemoryBusy
from memory.records import MemoryFault as MemoryFault
from memory.records import MemoryUnavailable as MemoryUnavailable
from memory.records import Position as Position
from memory.records import Record as Record
from memory.records import Scope as Scope
from memory.records import Source as Source
from memory.records import Trust as Trust
from memory.records import record_id as record_id
from memory.related_tools import RecalledTool as RecalledTool
from memory.store import Memory as Memory
from memory.store import MemoryStore as MemoryStore
from memory.store import Query as Query

WAITING = "waiting"
"""The folder in that of memory in which writes wait for servers."""

_LOG = logging.getLogger(__name__)


def open_store(
    path: Path,
    *,
    url: str | None = None,
    api_key: str | None = None,
    warn: Callable[[str], None] | None = None,
    remedy: str = "",
    waits: bool = True,
    http: Mapping[str, Any] | None = None,
) -> MemoryStore:
    """Open the memory in the folder `path`, or on the Qdrant server at `url` if one is given.

    A server is first asked at the first operation. While it cannot be used, reads raise `MemoryAway`, and
    writes wait in `path` unless `waits` is false: then they raise it too.

    `warn` receives the id of a record that cannot be read, and what happened if something damaged had to be
    put aside: what could be read of it, where it is, and `remedy` if records were lost; of a server also that
    writes wait, and that others can read the key on its way. By default it is logged. `http` are options for
    the client of the server, which are httpx's. Raises
    `MemoryUnavailable`.
    """
    if url is not None:
        from memory.server import ServerStore

        server = ServerStore(url, api_key, http=http, warn=warn or _LOG.warning)
        if not waits:
            return server
        from memory.waiting import WaitingStore, outbox_for

        outbox = outbox_for(path / WAITING, url, warn or _LOG.warning)
        return WaitingStore(server, outbox, warn or _LOG.warning)
    from memory.edge import EdgeStore

    return EdgeStore(path, warn=warn, remedy=remedy) if warn else EdgeStore(path, remedy=remedy)
