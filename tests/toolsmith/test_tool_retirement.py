"""Tools that are retired: out of what is offered, back when they are needed, or served by another."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from toolsmith.build import Searched, build_tool
from toolsmith.built import BuiltTool
from toolsmith.errors import LibraryError, ToolDisabled
from toolsmith.library import Library
from toolsmith.library.retirement import UNUSED, bring_back, offered, retire, retired, unused
from toolsmith.library.status import Judgement
from toolsmith.overlap import overlaps
from toolsmith.spec import Need, ToolSpec

SUCCEEDED = Judgement("success", "")
OTHER_WORDS = Need(name="word_frequencies", purpose="How often does each word stand in a file?")


def kept(library: Library, sample: Any, name: str = "count_words") -> BuiltTool:
    spec = ToolSpec.model_validate(sample.raw | {"name": name})
    source = sample.code.replace("def count_words", f"def {name}")
    return library.add(spec, source, sample.report, sample.origin, sample.suite)


def never(_prompt: str, _schema: object = None) -> str:
    raise AssertionError("a model was asked")


def test_a_retired_tool_is_not_in_the_library_and_comes_back_whole(library: Library, sample: Any) -> None:
    tool = kept(library, sample)
    library.record_use(tool, SUCCEEDED, 0.1, "r1")
    retire(library, tool.name)
    assert (library.known(), library.get(tool.name)) == ({}, None)
    assert retired(library).known() == {tool.name: 1}
    bring_back(library, tool.name)
    assert library.get(tool.name) == tool
    assert library.status(tool.name).tally(1).calls == 1
    assert retired(library).known() == {}


@pytest.mark.parametrize("name", ["count_words", "Count-Words"])
def test_a_plan_that_names_it_has_it_back_without_a_build(library: Library, sample: Any, name: str) -> None:
    tool = kept(library, sample)
    retire(library, tool.name)
    need = sample.need.model_copy(update={"name": name})
    assert build_tool(need, complete=never, library=library) == tool
    assert library.known() == {tool.name: 1}


def test_a_need_in_other_words_finds_it_too(library: Library, sample: Any, model: Callable[..., Any]) -> None:
    tool, steps = kept(library, sample), []
    retire(library, tool.name)
    said = model('{"use": "count_words", "why": "the same job"}')
    assert build_tool(OTHER_WORDS, complete=said, library=library, emit=steps.append) == tool
    assert [type(step) for step in steps] == [Searched]
    assert library.known() == {tool.name: 1}


def test_where_another_serves_in_its_place_the_other_is_used(library: Library, sample: Any) -> None:
    old, other = kept(library, sample), kept(library, sample, "tally_words")
    retire(library, old.name, served_by=other.name)
    assert [tool.name for tool in offered(library)] == [other.name]
    assert build_tool(sample.need, complete=never, library=library) == other
    assert retired(library).known() == {old.name: 1}
    library.remove(other.name)
    assert build_tool(sample.need, complete=never, library=library) == old


def test_only_a_tool_in_use_is_retired(library: Library, sample: Any) -> None:
    tool = kept(library, sample)
    library.disable(tool.name, "it is slow")
    with pytest.raises(ToolDisabled):
        retire(library, tool.name)
    with pytest.raises(ToolDisabled):  # and what the user disabled is not built again
        build_tool(sample.need, complete=never, library=library)


def test_a_tool_of_the_same_name_is_not_replaced(library: Library, sample: Any) -> None:
    kept(library, sample)
    retire(library, "count_words")
    newer = kept(library, sample)
    with pytest.raises(LibraryError):
        bring_back(library, "count_words")
    assert library.get("count_words") == newer
    retire(library, "count_words")  # the older one goes to the trash
    assert len([*(retired(library).root / ".trash").iterdir()]) == 1


def test_unused_are_those_that_nothing_called_for_long(library: Library, sample: Any) -> None:
    tool = kept(library, sample)
    kept(library, sample, "tally_words")
    later = Library(library.root, now=lambda: datetime.now(UTC) + UNUSED + timedelta(hours=1))
    assert unused(library) == ()
    assert set(unused(later)) == {"count_words", "tally_words"}
    later.record_use(tool, SUCCEEDED, 0.1, "r1")
    assert unused(later) == ("tally_words",)


def test_tools_that_do_the_same_are_found_by_their_cases(library: Library, sample: Any) -> None:
    used = kept(library, sample)
    kept(library, sample, "tally_words")
    wrong = ToolSpec.model_validate(sample.raw | {"name": "words_counted"})
    source = sample.code.replace("def count_words", "def words_counted").replace(
        "most_common(top)", "items()"
    )
    library.add(wrong, source, sample.report, sample.origin, sample.suite)
    library.record_use(used, SUCCEEDED, 0.1, "r1")
    (pair,) = overlaps(library, None)
    assert (pair.tool.name, pair.by.tool.name) == ("tally_words", "count_words")
    assert pair.by.cases == len(sample.suite.of(sample.spec))
