import numpy as np
import pytest

from profiling.promises.adaptive_margin import AdaptiveMargin


def test_a_miss_moves_the_margin_up_and_an_answer_in_time_a_little_down() -> None:
    margin = AdaptiveMargin(margin=0.1, alpha=0.1, step=0.1)
    margin.update(is_miss=True)
    assert margin.margin == pytest.approx(0.19)
    margin.update(is_miss=False)
    assert margin.margin == pytest.approx(0.18)


def test_the_margin_stays_within_its_limits() -> None:
    margin = AdaptiveMargin(margin=0.45, alpha=0.1, step=0.5, largest=0.5)
    margin.update(is_miss=True)
    assert margin.margin == 0.5
    for _ in range(20):
        margin.update(is_miss=False)
    assert margin.margin == 0.0


def test_misses_tend_to_alpha_on_a_device_that_has_become_slower() -> None:
    rng = np.random.default_rng(0)
    margin, late = AdaptiveMargin(margin=0.0, alpha=0.05, step=0.02), []
    for i in range(8000):
        slower = 1.0 if i < 4000 else 1.08
        # The policy uses all that it is given; a run then takes a few per cent more or less.
        is_miss = slower * (1 - margin.margin) * np.exp(rng.normal(0, 0.03)) > 1
        late.append(is_miss)
        margin.update(is_miss=bool(is_miss))
    assert np.mean(late[2000:4000]) == pytest.approx(0.05, abs=0.01)
    assert np.mean(late[6000:]) == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize(
    "changes", [{"margin": -0.1}, {"margin": 0.6}, {"largest": 1.0}, {"alpha": 0.0}, {"step": 2.0}]
)
def test_numbers_out_of_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"margin|alpha|step"):
        AdaptiveMargin(**{"margin": 0.1, "alpha": 0.05, **changes})
