"""What a measurement was made on."""

import platform
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal

import torch
import transformers

from profiling.schema import Environment

_CPU_INFO: Final = Path("/proc/cpuinfo")


def collect_environment(
    device: torch.device | str,
    *,
    engine: Literal["eager", "compiled", "graph"],
    dtype: str,
    model: str,
    model_shape: Mapping[str, Any] | None = None,
    random_weights: bool = False,
    router_skew: float | None = None,
    match_router_mass: bool = False,
    experts_by_top_k: Mapping[str, Any] | None = None,
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
        match_router_mass: Whether the chosen experts' weights sum to what those of the trained top_k would.
        experts_by_top_k: What levels of top_k mean, as ``KnobGrid.to_json`` says it.
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
        match_router_mass=match_router_mass,
        experts_by_top_k=None if experts_by_top_k is None else dict(experts_by_top_k),
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


def _driver() -> str | None:
    """Ask NVML for the driver's version; None where it is not installed or no driver answers."""
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        return str(nvml.nvmlSystemGetDriverVersion())
    finally:
        nvml.nvmlShutdown()
