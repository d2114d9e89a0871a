"""Random numbers that follow from keys: SplitMix64, and what is drawn of it."""

import numpy as np
import pytest

from inpaint_core.hole_masks.keyed_random import child_keys, integers, sample_keys, uniforms

KEYS = sample_keys((3, 1), np.arange(20_000))


def test_outputs_are_those_of_splitmix64() -> None:
    """The first outputs from the state 1234567, as the reference implementation gives them (Vigna, splitmix64.c)."""
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    state = np.array([1234567], np.uint64)
    assert child_keys(state, np.arange(5)).tolist() == expected
    assert [int(child_keys(state, number)[0]) for number in range(5)] == expected


def test_a_key_follows_from_seed_and_position_alone() -> None:
    np.testing.assert_array_equal(sample_keys((3, 1), np.array([77, 5])), KEYS[[77, 5]])
    assert len(np.unique(KEYS)) == len(KEYS)
    for other in ((3, 2), (4, 1), (3,)):
        assert not np.isin(sample_keys(other, np.arange(1000)), KEYS).any()


def test_integers_are_even_over_their_range() -> None:
    drawn = integers(KEYS, 0, -3, 7)
    assert (drawn.min(), drawn.max()) == (-3, 6)
    counts = np.bincount(drawn + 3)
    assert np.square(counts - 2000).sum() / 2000 < 30, "chi-square of 9 degrees of freedom: 27.9 at 0.1 %"
    assert abs(np.corrcoef(drawn, integers(KEYS, 1, -3, 7))[0, 1]) < 0.03
    assert integers(KEYS, 2, 5, 6).tolist() == [5] * len(KEYS)


def test_each_integer_may_have_a_limit_of_its_own() -> None:
    highs = np.arange(1, len(KEYS) + 1)
    drawn = integers(KEYS, 0, 0, highs)
    assert (drawn >= 0).all()
    assert (drawn < highs).all()
    assert (drawn / highs).mean() == pytest.approx(0.5, abs=0.01)


def test_uniforms_fill_the_unit_interval() -> None:
    drawn = uniforms(KEYS, 4)
    assert 0 <= drawn.min() < 0.001
    assert 0.999 < drawn.max() < 1
    assert drawn.mean() == pytest.approx(0.5, abs=0.01)
