"""Turns texts into sparse vectors: BM25 term weights, computed by Qdrant's own code without a download.

A vector's name is stored with it. Another embedder, or a change of this one's tokens, gets a new name and is
added beside the old vectors; nothing has to be reset.

What is not covered: dense vectors, which a model makes (see `dense`). Stop words and stems are English; words
of other languages are matched by their exact form (ignoring accents), for which inverse document frequency
compensates in part.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

from orchestrator_cli.durable.text import Similarity

# Thai, kana, CJK ideographs and Hangul: written without spaces, or with particles attached to words.
_UNSPACED = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_WORD = re.compile(r"\w+")
# The words of most requests, and small words of languages of which the embedder knows no stop words.
_COMMON = """
    make create write build generate produce give show tell find get list use do please help want need would
    like explain describe me my your new all every each some any one two three also then when how what which
    file text data result report name print save output input step example using simple short good best
    ich du er sie es wir ihr der die das den dem des ein eine einen einem einer eines und oder aber nicht mit
    von zu zum zur im in am an auf für über aus bei nach vor wie was wer wo ist sind war hat haben kann bitte
    mir mich mein meine als auch dass
    le la les un une des du de et ou mais pas avec pour sur dans par est sont que qui quoi comment ce cette
    mon ma mes au aux s'il vous plaît
    el los las una unos unas y o pero no con para por sobre en es son que quien como mi mis del al
    il lo gli i uno e ma non per su di da che chi come mio mia
"""


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Parallel term ids and weights; both empty if the text has no searchable word."""

    indices: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Floors:
    """Where the cosines of a model begin to mean something."""

    related: float
    """From here on, two texts have something to do with each other."""
    serves: float
    """From here on, what one describes is likely to be what the other asks for."""


@dataclass(frozen=True, slots=True)
class DenseVector:
    """A model's embedding of a text; the name says which model (see `dense`)."""

    name: str
    values: tuple[float, ...]
    floors: Floors | None = None
    """Of its model, if they are known."""


class Embedder(Protocol):
    @property
    def name(self) -> str:
        """The name of the vector in the store."""
        ...

    def document(self, text: str) -> SparseVector: ...

    def query(self, text: str) -> SparseVector: ...


class Bm25Embedder:
    """BM25 as built into Qdrant Edge; the engine multiplies the query by IDF when it searches."""

    name = "bm25"

    def __init__(self) -> None:
        import qdrant_edge

        config, tokenizer = qdrant_edge.Bm25Config, qdrant_edge.TokenizerType
        self._spaced = qdrant_edge.Bm25(config(tokenizer=tokenizer.Word, ascii_folding=True))
        # It drops bare numbers, and loads a dictionary of about 50 MB for the first such text.
        self._unspaced = qdrant_edge.Bm25(config(tokenizer=tokenizer.Multilingual, ascii_folding=True))

    def document(self, text: str) -> SparseVector:
        return self._embedded(_valid(text), "embed_document")

    def query(self, text: str) -> SparseVector:
        return self._embedded(_valid(text), "embed_query")

    def _embedded(self, text: str, kind: Literal["embed_document", "embed_query"]) -> SparseVector:
        engine = self._unspaced if _UNSPACED.search(text) else self._spaced
        vector = getattr(engine, kind)(text)
        return SparseVector(tuple(vector.indices), tuple(vector.values))


@lru_cache(maxsize=1)
def default_embedder() -> Bm25Embedder:
    """The embedder of the process; it is stateless and can be shared by threads."""
    return Bm25Embedder()


def terms(text: str) -> frozenset[int]:
    """The ids of the distinct stemmed words of a text, without stop words."""
    return frozenset(default_embedder().query(text).indices)


def similarity(texts: Iterable[frozenset[int]]) -> Similarity[int]:
    """Compares texts, given as sets of term ids, within the collection of a search's candidates."""
    return Similarity(texts, common_terms())


def common_terms() -> frozenset[int]:
    """The ids of words that most requests have."""
    return frozenset(_ids(_COMMON))


def sequence(text: str) -> tuple[int, ...]:
    """The same ids in the order of the words, with repetitions."""
    if _UNSPACED.search(text):
        return default_embedder().query(text).indices
    return tuple(id_ for word in _WORD.findall(_valid(text)) for id_ in _ids(word))


@lru_cache(maxsize=20_000)
def _ids(word: str) -> tuple[int, ...]:
    return default_embedder().query(word).indices


def _valid(text: str) -> str:
    # A prompt read from a pipe may hold lone surrogates, which the engine refuses.
    return text.encode("utf-8", "replace").decode("utf-8")
