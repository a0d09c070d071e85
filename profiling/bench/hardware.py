"""What a device can do, measured in the same run as what is held against it: memory bandwidth and matrix products."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from profiling.clock import CALL, StageClock, measure


@dataclass(frozen=True, kw_only=True)
class HardwareProbe:
    """How to measure the device.

    Args:
        copy_mib: Size of the tensor that is copied; far larger than any cache of the device.
        matmul_size: Rows and columns of the square matrices that are multiplied.
        warmup: Runs of either that are not counted.
        repeats: Runs that are.

    Raises:
        ValueError: If a size or the number of runs is below 1.
    """

    copy_mib: int = 4096
    matmul_size: int = 8192
    warmup: int = 5
    repeats: int = 30

    def __post_init__(self) -> None:
        for name in ("copy_mib", "matmul_size", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"hardware.{name}: must be 1 or more, got {getattr(self, name)}")
        if self.warmup < 0:
            raise ValueError(f"hardware.warmup: must be 0 or more, got {self.warmup}")


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What the device did at its fastest, so that a floor computed from it is one.

    Args:
        bandwidth_bytes_per_s: Of a copy, bytes read and bytes written.
        flops_per_s: Of a matrix product of random numbers in the model's type, two for a multiply-add.
    """

    bandwidth_bytes_per_s: float
    flops_per_s: float


def measure_hardware(probe: HardwareProbe, *, device: torch.device, dtype: torch.dtype) -> Hardware:
    """Measure a device. Nothing that was allocated for it is kept."""
    return Hardware(
        bandwidth_bytes_per_s=_bandwidth_bytes_per_s(probe, device),
        flops_per_s=_flops_per_s(probe, device, dtype),
    )


def _bandwidth_bytes_per_s(probe: HardwareProbe, device: torch.device) -> float:
    source = torch.ones(probe.copy_mib * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _fastest_s(probe, device, lambda: target.copy_(source))


def _flops_per_s(probe: HardwareProbe, device: torch.device, dtype: torch.dtype) -> float:
    size = probe.matmul_size
    generator = torch.Generator(device).manual_seed(0)
    # Zeros or ones would switch fewer transistors and run faster than any real product.
    left, right = (torch.randn(size, size, generator=generator, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    return 2 * size**3 / _fastest_s(probe, device, lambda: torch.mm(left, right, out=out))


def _fastest_s(probe: HardwareProbe, device: torch.device, fn: Callable[[], object]) -> float:
    samples_ms = measure(fn, clock=StageClock(device), warmup=probe.warmup, repeats=probe.repeats)
    return min(samples_ms[CALL]) / 1e3
