"""Dense vectors beside BM25, for whoever has a model of embeddings: they find what is said in other words.

    dense = Dense("ollama/nomic-embed-text", embed)      # texts to vectors; memory asks no network itself
    fill(store, dense, scope)                            # vectors for what lacks them
    found = retrieve(store, question, kinds=TURN, scope=scope, near=asked(store, dense, question))

They only add. Every record is written without one, is durable and is found by its words; `fill` makes the
vectors afterwards, in small batches, and attaches them. So no write waits for a model, and none is asked
while a turn of the store is held. A vector's name says which model made it: another model's lie beside it
and are not compared with it. What was not given a vector yet, whoever wrote it, is found by its words.

A model that fails stops nothing: `warn` is told once, and from then on this `Dense` asks it no more.

What is not covered: models that want to be told whether a text is a question; texts beyond some 6,000
characters, of which the beginning counts.
"""

import hashlib
import logging
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from memory.embedder import DenseVector
from memory.errors import EmbeddingFailed
from memory.records import CHUNK, FACT, RUN, TOOL, TURN, Scope
from memory.store import MemoryStore

EMBEDDED = (TURN, CHUNK, FACT, RUN, TOOL)
"""The kinds that have dense vectors: those that are looked for by what they mean."""

BATCH = 64

_LOG = logging.getLogger(__name__)
_CHARS = 6_000

Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]
"""A vector for each text. Raises `EmbeddingFailed`, which says why and what to do."""


@dataclass(frozen=True)
class Filled:
    made: int = 0
    lacking: int = 0
    """Records that have none still."""


class Dense:
    """A model of embeddings by its name. `warn` is told, in one sentence, when it fails."""

    def __init__(self, model: str, embed: Embed, warn: Callable[[str], None] = _LOG.warning) -> None:
        self.model = model
        self.name = vector_name(model)
        self._embed = embed
        self._warn = warn
        self._failed = False

    def vectors(self, texts: Sequence[str]) -> list[DenseVector]:
        """A vector for each text; none at all where the model fails or has failed before."""
        if self._failed or not texts:
            return []
        try:
            made = self._embed([_embeddable(text) for text in texts])
            return [DenseVector(self.name, values) for values in checked(made, len(texts))]
        except EmbeddingFailed as exc:
            self.give_up(exc)
            return []

    def give_up(self, why: EmbeddingFailed) -> None:
        """Ask no more, and say why."""
        self._failed = True
        self._warn(f"{self.model} gives no vectors, so memory is searched by words alone: {why}")


def asked(store: MemoryStore, dense: Dense | None, text: str) -> DenseVector | None:
    """The text as a vector, for a search; None where there is none to be had or none to compare it with.

    It is then looked for by its words alone. Not to be called within a turn. Raises what the store raises.
    """
    if dense is None or not text.strip() or not store.vectors().get(dense.name):
        return None
    return next(iter(dense.vectors([text])), None)


def fill(
    store: MemoryStore,
    dense: Dense,
    scope: Scope,
    *,
    most: int | None = None,
    told: Callable[[int, int], None] | None = None,
) -> Filled:
    """Make vectors for what lacks them, for at most so many records; `told` hears how many of how many.

    What is kept meanwhile is kept: after a fault or a kill the next one goes on. Raises what the store
    raises, but for a model that fails.
    """
    wanted = store.lacking(dense.name, EMBEDDED, scope)
    chosen, made = wanted[:most], 0
    for start in range(0, len(chosen), BATCH):
        batch = chosen[start : start + BATCH]
        # The key stands in for a text of white space, which providers refuse.
        vectors = dense.vectors([record.text if record.text.strip() else record.key for record in batch])
        if not vectors:
            break
        try:
            store.attach(zip(batch, vectors, strict=True))
        except EmbeddingFailed as exc:
            dense.give_up(exc)
            break
        made += len(batch)
        if told is not None:
            told(made, len(chosen))
    return Filled(made, len(wanted) - made)


def lacking(store: MemoryStore, model: str, scope: Scope) -> int:
    """How many records have no vector of this model."""
    return len(store.lacking(vector_name(model), EMBEDDED, scope))


def vector_name(model: str) -> str:
    """What vectors of a model are called in a store: readable, and unlike those of any other."""
    readable = re.sub("[^a-z0-9]+", "-", model.lower()).strip("-")[:60]
    return f"dense-{readable}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def checked(made: Iterable[Sequence[float]], wanted: int) -> list[tuple[float, ...]]:
    """The vectors, where they are as many as the texts, all of one size, and of numbers. Else raises."""
    vectors = [tuple(map(float, values)) for values in made]
    if len(vectors) != wanted:
        raise EmbeddingFailed(f"it made {len(vectors)} vectors of {wanted} texts; name another model.")
    sizes = {len(values) for values in vectors}
    if sizes == {0} or len(sizes) != 1 or not all(map(math.isfinite, (x for v in vectors for x in v))):
        raise EmbeddingFailed("what it made are no vectors of one size; name another model.")
    return vectors


def _embeddable(text: str) -> str:
    return text[:_CHARS].encode("utf-8", "replace").decode("utf-8")
