"""How alike two texts are, by the terms of the embedder; see `durable.similarity`. Pure."""

from collections.abc import Iterable
from functools import lru_cache

from memory.embedder import terms
from orchestrator_cli.durable.similarity import Similarity

# What requests of any subject are made of, and the small words of languages that the embedder, whose stop
# words are English, lets through.
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


def similarity(texts: Iterable[frozenset[int]]) -> Similarity[int]:
    """Compares texts (as term sets) with a search's candidates as the collection."""
    return Similarity(texts, _common_terms())


@lru_cache(maxsize=1)
def _common_terms() -> frozenset[int]:
    return terms(_COMMON)
