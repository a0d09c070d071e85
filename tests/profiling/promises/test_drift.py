import pytest

from profiling.promises.drift import DriftAlarm


def test_the_alarm_rings_when_the_median_of_a_window_has_moved() -> None:
    alarm = DriftAlarm(expected_ratio=1.02, tolerance=0.05, window=5)
    for ratio in (1.02, 1.0, 1.04, 9.0):
        alarm.update(measured_ms=50 * ratio, predicted_ms=50)
        assert (alarm.shift, alarm.rings) == (None, False)
    alarm.update(measured_ms=51, predicted_ms=50)
    assert alarm.shift == pytest.approx(0.0)  # one outlier moves no median
    assert not alarm.rings
    for _ in range(3):
        alarm.update(measured_ms=55, predicted_ms=50)
    assert alarm.shift == pytest.approx(1.1 / 1.02 - 1)
    assert alarm.rings


def test_a_faster_device_is_a_drift_too() -> None:
    alarm = DriftAlarm(window=1)
    alarm.update(measured_ms=40, predicted_ms=50)
    assert alarm.rings


@pytest.mark.parametrize("changes", [{"expected_ratio": 0.0}, {"tolerance": 0.0}, {"window": 0}])
def test_numbers_out_of_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        DriftAlarm(**changes)  # type: ignore[arg-type]
