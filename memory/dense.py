"""Dense vectors in addition to BM25: they find the same meaning in other words, if the user has a model.

    dense = Dense("ollama/nomic-embed-text", embed)     # `embed` maps texts to vectors
    fill_vectors(store, dense, scope)                   # make the vectors that are missing
    near = query_vector(store, dense, question)
    hits = retrieve(store, question, kinds=TURN, scope=scope, near=near)

Vectors are optional for every record: it is written without one, and is durable and found by its words.
`fill_vectors` makes the vectors later, in small batches. So no write waits for a model, and no model is asked
during a turn of the store. A vector's name says which model made it; vectors of different models coexist and
are not compared.

A message of a conversation is short and refers to what came before, so its vector is made from the end of the
previous message, its speaker and its own text, without the day.

A model that fails stops nothing: `warn` is called once, and this `Dense` does not ask the model again.

What is not covered: models that distinguish questions from documents; texts longer than 6,000 characters, of
which only the beginning counts.
"""

import hashlib
import logging
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from memory.embedder import DenseVector, Floors
from memory.records import CHUNK, FACT, RUN, TOOL, TURN, EmbeddingFailed, Position, Record, Scope
from memory.store import MemoryStore

EMBEDDED = (TURN, CHUNK, FACT, RUN, TOOL)
"""The kinds that have dense vectors: those that are searched by meaning."""

BATCH = 64

_LOG = logging.getLogger(__name__)
_CHARS = 6_000
_PREVIOUS_CHARS = 400
_FORM = 2
"""Raised when vectors are made from other texts: those of before are then made again."""

Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]
"""Returns a vector for each text. Raises `EmbeddingFailed` with the reason and the remedy."""


@dataclass(frozen=True)
class FillResult:
    made: int = 0
    missing: int = 0
    """Records that still have none."""


class Dense:
    """An embedding model. `warn` receives one sentence when it fails.

    Without `floors`, tools that are only near are not recalled: which cosine is near differs between models.
    """

    def __init__(
        self,
        model: str,
        embed: Embed,
        warn: Callable[[str], None] = _LOG.warning,
        *,
        floors: Floors | None = None,
        is_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self.model = model
        self.is_ready = is_ready
        self.floors = floors
        self.name = vector_name(model)
        self._embed = embed
        self._warn = warn
        self._failed = False

    def vectors(self, texts: Sequence[str]) -> list[DenseVector]:
        """A vector for each text; an empty list if the model fails or has failed before."""
        if self._failed or not texts:
            return []
        valid = [text[:_CHARS].encode("utf-8", "replace").decode("utf-8") for text in texts]
        try:
            made = checked(self._embed(valid), len(texts))
        except EmbeddingFailed as exc:
            self.give_up(exc)
            return []
        return [DenseVector(self.name, values, self.floors) for values in made]

    def give_up(self, why: EmbeddingFailed) -> None:
        """Do not ask the model again, and warn with the reason."""
        self._failed = True
        self._warn(f"{self.model} gives no vectors, so memory is searched by words alone: {why}")


def query_vector(store: MemoryStore, dense: Dense | None, text: str) -> DenseVector | None:
    """The text as a vector for a search; None if the model gives none, or the store has none to compare with.

    With None, the search is by words alone. Must not be called within a turn. Raises what the store raises.
    """
    if dense is None or not text.strip() or not store.vectors().get(dense.name):
        return None
    return next(iter(dense.vectors([text])), None)


def fill_vectors(
    store: MemoryStore,
    dense: Dense,
    scope: Scope,
    *,
    limit: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> FillResult:
    """Make the missing vectors, for at most `limit` records.

    `on_progress` receives how many are done and how many there are. Each batch is stored at once, so after a
    fault or kill the next call continues. Raises what the store raises, but nothing if the model fails.
    """
    wanted = store.missing_vectors(dense.name, EMBEDDED, scope)
    chosen, made = wanted[:limit], 0
    for start in range(0, len(chosen), BATCH):
        batch = chosen[start : start + BATCH]
        vectors = dense.vectors(_texts(store, batch))
        if not vectors:
            break
        try:
            store.put_vectors(zip(batch, vectors, strict=True))
        except EmbeddingFailed as exc:
            dense.give_up(exc)
            break
        made += len(batch)
        if on_progress is not None:
            on_progress(made, len(chosen))
    return FillResult(made, len(wanted) - made)


def count_missing(store: MemoryStore, model: str, scope: Scope) -> int:
    """How many records have no vector of the model."""
    return len(store.missing_vectors(vector_name(model), EMBEDDED, scope))


def vector_name(model: str) -> str:
    """The name of a model's vectors in a store: readable and unique."""
    readable = re.sub("[^a-z0-9]+", "-", model.lower()).strip("-")[:60]
    return f"dense-{readable}-{hashlib.sha256(f'{_FORM} {model}'.encode()).hexdigest()[:8]}"


def _texts(store: MemoryStore, records: Sequence[Record]) -> list[str]:
    """What the vectors of the records are made from."""
    before = {
        record.id: Position(record.position.session, record.position.seq - 1)
        for record in records
        if record.kind == TURN and record.position is not None and record.position.seq > 0
    }
    found: dict[tuple[Scope, Position | None], str] = {}
    for scope in {record.scope for record in records if record.id in before}:
        wanted = [before[record.id] for record in records if record.id in before and record.scope == scope]
        for record in store.at_positions(wanted, kinds=TURN, scope=scope, at="ever"):
            found[record.scope, record.position] = _said(record)[1]
    made = []
    for record in records:
        speaker, text = _said(record)
        previous = found.get((record.scope, before.get(record.id)), "")[-_PREVIOUS_CHARS:]
        whole = "\n".join(filter(None, [previous, f"{speaker}: {text}" if speaker else text]))
        # Providers refuse blank texts, so the key replaces them.
        made.append(whole if whole.strip() else record.key)
    return made


def _said(record: Record) -> tuple[str, str]:
    """The speaker and the words of a message; of another record no one and its text."""
    speaker, text = record.data.get("speaker"), record.data.get("text")
    if record.kind != TURN or not isinstance(speaker, str) or not isinstance(text, str):
        return "", record.text
    return speaker, text


def checked(made: Iterable[Sequence[float]], wanted: int) -> list[tuple[float, ...]]:
    """The vectors, one per text, all of one size and finite. Raises `EmbeddingFailed` if they are not."""
    vectors = [tuple(map(float, values)) for values in made]
    if len(vectors) != wanted:
        raise EmbeddingFailed(f"it made {len(vectors)} vectors for {wanted} texts; choose another model.")
    sizes = {len(values) for values in vectors}
    if sizes == {0} or len(sizes) != 1 or not all(map(math.isfinite, (x for v in vectors for x in v))):
        raise EmbeddingFailed("its vectors are not all of one size and finite; choose another model.")
    return vectors
