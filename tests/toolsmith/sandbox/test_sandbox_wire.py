"""The wire format, without processes."""

import contextlib
import datetime
import enum
import json
from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolsmith.sandbox import wire
from toolsmith.sandbox.wire import MAX_DEPTH, MAX_FRAME, WireError, decode, encode, pack, unpack

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**14_000) + 1, 2**14_000 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.dates()
    | st.times()
)
hashable = scalars | st.tuples(scalars, scalars) | st.frozensets(scalars, max_size=3)
values = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(hashable, inner, max_size=4)
        | st.tuples(inner, inner)
        | st.sets(hashable, max_size=4)
    ),
    max_leaves=20,
)


@given(values)
def test_plain_values_survive_the_way_there_and_back(value: Any) -> None:
    back = decode(json.loads(json.dumps(encode(value))))
    assert back == value
    assert isinstance(back, type(value))


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_decoding_any_json_gives_a_value_or_a_codec_error(data: Any) -> None:
    with contextlib.suppress(WireError):
        decode(data)


@given(st.binary(max_size=40))
def test_unpacking_any_bytes_gives_a_message_or_nothing_or_a_codec_error(data: bytes) -> None:
    try:
        message = unpack(bytearray(data))
    except WireError:
        return
    assert message is None or isinstance(message["t"], str)


def test_frames_can_arrive_in_pieces() -> None:
    data = pack({"t": "a", "v": "é"}) + pack({"t": "b"})
    buffer, seen = bytearray(), []
    for byte in data:
        buffer.append(byte)
        if (message := unpack(buffer)) is not None:
            seen.append(message["t"])
    assert seen == ["a", "b"]
    assert not buffer


def test_subclasses_arrive_as_their_plain_base() -> None:
    class Colour(enum.IntEnum):
        RED = 1

    class Word(str):
        pass

    class Pair(NamedTuple):
        a: int
        b: int

    pair = Pair(1, 2)
    back = decode(encode([Colour.RED, Word("w"), pair, OrderedDict(a=1)]))
    assert back == [1, "w", (1, 2), {"a": 1}]
    assert [type(item) for item in back] == [int, str, tuple, dict]


def test_the_text_of_a_set_has_one_order() -> None:
    letters = set("hgfedcba")
    assert str(decode(encode(letters))) == "{'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'}"
    assert (
        str(decode(encode([frozenset({2, 1}), set(), frozenset()])))
        == "[frozenset({1, 2}), set(), frozenset()]"
    )


def test_no_number_is_passed_that_cannot_be_written() -> None:
    longest = -(2**14_000) + 1
    assert decode(json.loads(json.dumps(encode(longest)))) == longest
    for too_long in (2**14_000, [2**100_000]):
        with pytest.raises(WireError, match="bits"):
            encode(too_long)
        with pytest.raises(WireError, match="bits"):
            decode(too_long)


SAME_HASH = [number * (2**61 - 1) for number in range(1, 20_000)]


@pytest.mark.parametrize(
    "data",
    [
        {"$": "set", "v": SAME_HASH},
        {"$": "frozenset", "v": SAME_HASH},
        {"$": "dict", "v": [[number, None] for number in SAME_HASH]},
        [{"$": "set", "v": SAME_HASH[:2000]}] * 100,
        {"$": "set", "v": [{"$": "tuple", "v": [number]} for number in SAME_HASH]},
    ],
    ids=["set", "frozenset", "dict", "many sets", "tuples"],
)
def test_keys_that_are_hard_to_tell_apart_are_refused(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_KEYS_S", 0.1)
    with pytest.raises(WireError, match="hash"):
        decode(data)


def test_very_many_keys_are_no_fault() -> None:
    numbers = set(range(200_000))
    assert decode(encode(numbers)) == numbers


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_a_forged_value_has_the_bounds_of_a_real_one() -> None:
    assert decode(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    with pytest.raises(WireError, match="deep"):
        decode(nested(MAX_DEPTH + 1))
    with pytest.raises(WireError, match="parts"):
        decode([0] * 1_000_000)


def test_a_cycle_becomes_dots() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert decode(encode(loop)) == [1, "..."]


def test_the_same_value_twice_is_no_cycle() -> None:
    part = [1]
    assert decode(encode([part, part])) == [[1], [1]]


def test_depth_is_cut() -> None:
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    assert "..." in json.dumps(encode(deep))


def test_an_object_whose_text_fails_is_named() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    assert decode(encode(Broken())) == "<Broken: its text failed with RuntimeError>"


def test_arrays_arrive_as_lists() -> None:
    numpy = pytest.importorskip("numpy")
    assert decode(encode({"a": numpy.array([[1, 2], [3, 4]]), "s": numpy.float64(0.5)})) == {
        "a": [[1, 2], [3, 4]],
        "s": 0.5,
    }


def test_too_much_is_refused() -> None:
    with pytest.raises(WireError, match="more than 1,000,000 parts"):
        encode([0] * 1_000_001)
    with pytest.raises(WireError, match="at most 8 MB can be passed"):
        pack({"t": "x", "v": "x" * MAX_FRAME})


def test_every_text_is_passed_through_the_given_function() -> None:
    value = {"k": ["a", ("b",)], "d": datetime.date(2024, 1, 1)}
    assert decode(encode(value), str.upper) == {"K": ["A", ("B",)], "D": datetime.date(2024, 1, 1)}
