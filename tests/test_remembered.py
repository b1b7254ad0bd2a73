from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_analysis import remembered
from crm_analysis.remembered import Memory, digest

KEYS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)


def asked_in_vain() -> np.ndarray:
    raise AssertionError("it was kept and is not to be computed again")


def test_what_was_computed_once_is_not_computed_again() -> None:
    memory, asked = Memory(), []

    def compute() -> np.ndarray:
        asked.append(1)
        return np.arange(3.0)

    first = memory.recall(("f", 1.0), compute)
    assert memory.recall(("f", 1.0), compute) is first
    assert len(asked) == 1
    memory.recall(("f", 2.0), compute)
    assert len(asked) == 2
    assert memory.n_bytes == 2 * 24


def test_nobody_can_change_what_the_next_one_gets() -> None:
    kept = Memory().recall(("f",), lambda: (np.zeros(2), 1.0))
    with pytest.raises(ValueError, match="read-only"):
        kept[0][0] = 1.0


def test_the_longest_unasked_goes_first_and_the_bound_holds() -> None:
    memory = Memory(most_bytes=250, largest_bytes=200)
    for name in "abc":
        memory.recall((name,), lambda: np.zeros(10))  # 80 bytes each
    memory.recall(("a",), asked_in_vain)
    memory.recall(("d",), lambda: np.zeros(10))
    assert memory.n_bytes == 240
    memory.recall(("a",), asked_in_vain)
    assert memory.recall(("b",), lambda: np.ones(1))[0] == 1  # gone, computed anew
    memory.recall(("large",), lambda: np.zeros(30))
    assert memory.recall(("large",), lambda: np.ones(30))[0] == 1  # never kept


@given(KEYS, KEYS)
def test_only_equal_keys_share_a_digest(one: object, other: object) -> None:
    assert (digest(one) == digest(other)) == (repr(one) == repr(other))


def test_arrays_are_told_apart_by_type_shape_and_last_bit() -> None:
    base = np.ones(4)
    near = base.copy()
    near[3] = np.nextafter(1.0, 2.0)
    variants = [base, near, base.reshape(2, 2), base.astype(np.int64), base.astype(np.float32)]
    assert len({digest(("f", each)) for each in variants}) == len(variants)
    assert digest(("f", np.arange(8.0)[::2])) == digest(("f", np.arange(0.0, 8.0, 2.0)))


def test_what_may_change_behind_its_name_is_no_key_and_words_are_no_result() -> None:
    with pytest.raises(TypeError, match="texts, numbers and arrays"):
        digest(("f", [1.0]))
    with pytest.raises(TypeError, match="Numbers and arrays"):
        Memory().recall(("f",), lambda: "a word in some language")


def test_nothing_is_kept_unless_the_process_asks_for_it() -> None:
    remembered.stop()
    counted = iter(range(9))
    ask = ("counted",)
    assert [remembered.remembered(ask, lambda: next(counted)) for _ in range(2)] == [0, 1]
    try:
        remembered.start()
        assert [remembered.remembered(ask, lambda: next(counted)) for _ in range(2)] == [2, 2]
    finally:
        remembered.stop()
