import pytest

from profiling.adaptive.pace import Pace


def test_the_pace_follows_a_machine_that_gets_slow_and_recovers() -> None:
    pace = Pace(weight=0.5)
    assert pace.slowness == 1.0
    pace.update(measured_ms=40.0, expected_ms=20.0)
    assert pace.slowness == pytest.approx(2**0.5)
    for _ in range(10):
        pace.update(measured_ms=30.0, expected_ms=20.0)
    assert pace.slowness == pytest.approx(1.5, rel=1e-3)
    for _ in range(10):
        pace.update(measured_ms=20.0, expected_ms=20.0)
    assert pace.slowness == pytest.approx(1.0, rel=1e-3)


def test_a_fast_machine_is_given_no_more_to_do_but_its_next_slow_request_counts_for_less() -> None:
    fast, usual = Pace(), Pace()
    for _ in range(20):
        fast.update(measured_ms=10.0, expected_ms=20.0)
        usual.update(measured_ms=20.0, expected_ms=20.0)
    assert fast.slowness == usual.slowness == 1.0
    for pace in (fast, usual):
        pace.update(measured_ms=36.0, expected_ms=20.0)
    assert fast.slowness == 1.0 < usual.slowness


def test_one_request_that_hung_is_not_the_machine() -> None:
    pace, doubled = Pace(), Pace()
    pace.update(measured_ms=1e6, expected_ms=20.0)
    doubled.update(measured_ms=40.0, expected_ms=20.0)
    assert pace.slowness == doubled.slowness < 1.25


@pytest.mark.parametrize("weight", [0.0, -0.1, 1.5, float("nan")])
def test_a_weight_is_a_share(weight: float) -> None:
    with pytest.raises(ValueError, match="weight: must be above 0 and at most 1"):
        Pace(weight=weight)


def test_a_pace_that_forgets_begins_anew() -> None:
    pace = Pace()
    pace.update(measured_ms=40.0, expected_ms=20.0)
    pace.forget()
    assert pace == Pace()
