"""What a measurement was made on, and how a GPU felt while it was made."""

import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, TypeVar

import torch
import transformers

from profiling.schema import Environment

_CPU_INFO: Final = Path("/proc/cpuinfo")
# NVML's bit names; an idle GPU and clocks that somebody chose are no sign of trouble, but change times all the same.
_THROTTLE_REASONS: Final[Mapping[int, str]] = {
    0x001: "idle",
    0x002: "application_clocks",
    0x004: "power_cap",
    0x008: "hardware_slowdown",
    0x010: "sync_boost",
    0x020: "software_thermal",
    0x040: "hardware_thermal",
    0x080: "power_brake",
    0x100: "display_clocks",
}

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class GpuState:
    """One look at a GPU; what cannot be read is None.

    Args:
        sm_clock_mhz: Clock of the multiprocessors.
        temperature_c: Temperature of the chip.
        power_w: Power drawn by the board.
        throttle_reasons: Why the clock is not at its highest; empty when nothing holds it.
    """

    sm_clock_mhz: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    throttle_reasons: tuple[str, ...] | None = None


def collect_environment(
    device: torch.device | str,
    *,
    engine: Literal["eager", "compiled", "graph"],
    dtype: str,
    model: str,
    model_shape: Mapping[str, Any] | None = None,
    random_weights: bool = False,
    router_skew: float | None = None,
) -> Environment:
    """Describe this process on a device. Driver and CUDA version are missing when the device is not a GPU.

    Args:
        device: Where the model runs.
        engine: How the model runs.
        dtype: Type of its weights.
        model: Its name.
        model_shape: Content of its ``config.json``.
        random_weights: Whether its weights mean nothing.
        router_skew: How unevenly its routers were made to choose experts, if they were.
    """
    device = torch.device(device)
    is_gpu = device.type == "cuda"
    return Environment(
        device=torch.cuda.get_device_name(device) if is_gpu else cpu_name(),
        driver=_driver() if is_gpu else None,
        cuda=torch.version.cuda if is_gpu else None,
        torch=torch.__version__,
        transformers=transformers.__version__,
        python=platform.python_version(),
        engine=engine,
        dtype=dtype.removeprefix("torch."),
        num_threads=torch.get_num_threads(),
        model=model,
        model_shape=None if model_shape is None else dict(model_shape),
        random_weights=random_weights,
        router_skew=router_skew,
        commit=git_commit(Path(__file__).parent),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def cpu_name() -> str:
    """Return the processor's name as Linux knows it, elsewhere as Python does."""
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def git_commit(folder: Path) -> str | None:
    """Return the commit that a folder is at, ending in ``-dirty`` when files differ; None outside a repository."""
    git = shutil.which("git")
    if git is None:
        return None

    def run(*arguments: str) -> str | None:
        command = [git, "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout.strip() if done.returncode == 0 else None

    commit = run("rev-parse", "HEAD")
    if commit is None:
        return None
    return f"{commit}-dirty" if run("status", "--porcelain", "--untracked-files=no") else commit


def sample_gpu_state(device: torch.device | str) -> GpuState:
    """Look at a GPU through NVML; all fields are None for a CPU, or where NVML or its Python package is missing."""
    device = torch.device(device)
    if device.type != "cuda":
        return GpuState()
    with _nvml() as nvml:
        if nvml is None:
            return GpuState()
        handle = _readable(nvml, lambda: nvml.nvmlDeviceGetHandleByUUID(_uuid(device)))
        if handle is None:
            return GpuState()
        reasons = _readable(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
        power_mw = _readable(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        return GpuState(
            sm_clock_mhz=_readable(nvml, lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            temperature_c=_readable(nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            power_w=None if power_mw is None else power_mw / 1000.0,
            throttle_reasons=None if reasons is None else _reason_names(reasons),
        )


def _reason_names(bits: int) -> tuple[str, ...]:
    return tuple(name for bit, name in _THROTTLE_REASONS.items() if bits & bit)


def _uuid(device: torch.device) -> str:
    """Name the GPU as NVML does, whose numbering ignores CUDA_VISIBLE_DEVICES."""
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"


def _driver() -> str | None:
    with _nvml() as nvml:
        return None if nvml is None else _readable(nvml, lambda: str(nvml.nvmlSystemGetDriverVersion()))


@contextmanager
def _nvml() -> Iterator[Any]:
    """Open NVML while the block runs; give None where it is not installed or no driver answers."""
    nvml: ModuleType | None
    try:
        nvml = import_module("pynvml")
    except ImportError:
        nvml = None
    if nvml is None or _readable(nvml, lambda: (nvml.nvmlInit(), True)) is None:
        yield None
        return
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def _readable(nvml: Any, read: Callable[[], Value]) -> Value | None:
    """Return a reading, or None where this GPU or driver does not offer it."""
    try:
        return read()
    except nvml.NVMLError:
        return None
