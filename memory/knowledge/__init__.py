"""A knowledge base: documents that the user adds, split into chunks that can be found, cited and forgotten.

base = KnowledgeBase(open_store(folder), Scope(project="…"))
report = Ingester(base, base.scope, convert=…, fetch=…).add(["/notes"])     # see `ingest`
base.search("When is the rent due?")
"""

from memory.knowledge.base import (
    DOCUMENT,
    SOURCE,
    FoundChunk,
    KnowledgeBase,
    KnowledgeSource,
    NewDocument,
    SourceType,
    StoredDocument,
)

__all__ = [
    "DOCUMENT",
    "SOURCE",
    "FoundChunk",
    "KnowledgeBase",
    "KnowledgeSource",
    "NewDocument",
    "SourceType",
    "StoredDocument",
]
