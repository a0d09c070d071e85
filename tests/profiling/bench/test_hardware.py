import re

import pytest
import torch

from profiling.bench.hardware import HardwareProbe, measure_hardware
from tests.patched_clock import patch_clock


def test_the_fastest_counted_run_gives_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_clock(monkeypatch)
    probe = HardwareProbe(copy_mib=1, matmul_size=10, warmup=2, repeats=3)
    hardware = measure_hardware(probe, device=torch.device("cpu"), dtype=torch.float32)
    # Run number n of the patched clock, from 1, takes 4 n - 1 ms: copies are 3 to 5, products 8 to 10.
    assert hardware.bandwidth_bytes_per_s == pytest.approx(2 * 2**20 / 0.011)
    assert hardware.flops_per_s == pytest.approx(2 * 10**3 / 0.031)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"copy_mib": 0}, "hardware.copy_mib: must be 1 or more, got 0"),
        ({"matmul_size": -1}, "hardware.matmul_size: must be 1 or more, got -1"),
        ({"repeats": 0}, "hardware.repeats: must be 1 or more, got 0"),
        ({"warmup": -1}, "hardware.warmup: must be 0 or more, got -1"),
    ],
)
def test_a_probe_that_measures_nothing_is_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        HardwareProbe(**changes)
