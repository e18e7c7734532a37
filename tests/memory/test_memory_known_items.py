"""The made documents that rankings are measured on: each question has its answer, and all is made alike."""

from known_items import Corpus, corpora

from memory.knowledge.chunks import split_document


def answers(corpus: Corpus) -> list[int]:
    """For each question, how many pieces have the section that answers it."""
    pieces = {ref: split_document(document) for ref, document in corpus.documents.items()}
    return [
        sum(item.heading in "\n".join([*piece.headings, piece.text]) for piece in pieces[item.ref])
        for item in corpus.items
    ]


def test_each_question_has_its_answer_and_all_are_made_again_alike() -> None:
    made = list(corpora())
    assert len(made) >= 3
    assert sum(len(corpus.items) for corpus in made) >= 500
    assert [count for corpus in made for count in answers(corpus) if count == 0] == []
    assert list(corpora()) == made
    assert list(corpora(seed=2)) != made
