"""A knowledge base: documents that the user adds, split into chunks that can be found, cited and forgotten.

base = KnowledgeBase(open_store(folder), Scope(project="…"))
report = Ingester(base, base.scope, convert=…, fetch=…).add(["/notes"])     # see `ingest`
base.search("When is the rent due?")
"""

from memory.knowledge.base import FoundChunk as FoundChunk
from memory.knowledge.base import KnowledgeBase as KnowledgeBase
from memory.knowledge.base import KnowledgeSource as KnowledgeSource
from memory.knowledge.base import NewDocument as NewDocument
from memory.knowledge.base import StoredDocument as StoredDocument
