from collections import Counter

import pytest

from profiling.suite.draws import Draws, is_held_out


def draws(name: str = "a") -> Draws:
    return Draws(name, may_be_unseen=True)


def test_the_name_decides_everything() -> None:
    one, same, other = draws(), draws(), draws("b")
    assert [one.whole(0, 10**6) for _ in range(5)] == [same.whole(0, 10**6) for _ in range(5)]
    assert one.some_of(range(1000), 5) == same.some_of(range(1000), 5)
    assert one.between(0, 1) != other.between(0, 1)


def test_choices_are_even_and_both_ends_are_reached() -> None:
    one = draws()
    assert Counter(one.whole(2, 5) for _ in range(4000)) == pytest.approx(dict.fromkeys(range(2, 6), 1000), abs=100)
    assert Counter(one.one_of("xyz") for _ in range(3000)) == pytest.approx(dict.fromkeys("xyz", 1000), abs=100)
    assert sum(one.chance(0.3) for _ in range(4000)) == pytest.approx(1200, abs=100)
    numbers = [one.between(-1, 3) for _ in range(2000)]
    assert -1 <= min(numbers) < -0.98
    assert 2.98 < max(numbers) < 3


def test_some_of_many_are_different_and_in_any_order() -> None:
    orders = Counter(tuple(draws(str(i)).some_of("abc", 3)) for i in range(1200))
    assert set(map(len, map(set, orders))) == {3}
    assert list(orders.values()) == pytest.approx([200] * 6, abs=50)


def test_one_in_six_combinations_is_kept_from_training() -> None:
    words = [f"word {i}" for i in range(6000)]
    assert sum(map(is_held_out, words)) == pytest.approx(1000, abs=100)
    training = Draws("a", may_be_unseen=False)
    assert [training.allows(word) for word in words] == [not is_held_out(word) for word in words]
    assert all(map(draws().allows, words))
