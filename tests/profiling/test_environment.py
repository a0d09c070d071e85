import platform
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from profiling import environment
from profiling.environment import collect_environment, cpu_name, git_commit


class FakeNvml(ModuleType):
    """Enough of NVML for one GPU, which does not tell its power."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.num_open = 0

    def nvmlInit(self) -> None:
        self.num_open += 1

    def nvmlShutdown(self) -> None:
        self.num_open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.1"


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    return fake


def test_a_cpu_environment_names_the_processor_and_no_driver() -> None:
    found = collect_environment("cpu", engine="eager", dtype="torch.float32", model="tiny", model_shape={"d_model": 64})
    assert found.device == cpu_name()
    assert (found.driver, found.cuda) == (None, None)
    assert (found.engine, found.dtype, found.model, found.model_shape) == ("eager", "float32", "tiny", {"d_model": 64})
    assert found.num_threads == 1
    assert found.python == platform.python_version()
    assert found.torch == torch.__version__
    assert platform.node() not in found.model_dump_json()


def test_a_gpu_environment_names_device_driver_and_cuda(nvml: FakeNvml) -> None:
    found = collect_environment(
        "cuda", engine="graph", dtype="bfloat16", model="m", random_weights=True, router_skew=1.5
    )
    assert (found.device, found.driver, found.cuda) == ("NVIDIA H200", "580.1", "13.0")
    assert (found.random_weights, found.router_skew) == (True, 1.5)
    assert nvml.num_open == 0


def test_the_driver_is_unknown_without_nvml_or_where_it_does_not_answer(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_driver() -> None:
        raise nvml.NVMLError("driver not loaded")

    monkeypatch.setattr(nvml, "nvmlInit", no_driver)
    assert collect_environment("cuda", engine="eager", dtype="float32", model="m").driver is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert collect_environment("cuda", engine="eager", dtype="float32", model="m").driver is None


def test_the_processor_is_named_by_linux_or_by_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Xeon: 8480\nmodel name\t: Xeon: 8480\n")
    monkeypatch.setattr(environment, "_CPU_INFO", info)
    assert cpu_name() == "Xeon: 8480"
    monkeypatch.setattr(environment, "_CPU_INFO", tmp_path / "gone")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert cpu_name() == "arm64"


def test_the_commit_is_marked_when_files_differ_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_commit(tmp_path) is None
    (tmp_path / "a.txt").write_text("one")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "--no-verify", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    clean = git_commit(tmp_path)
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "a.txt").write_text("two")
    assert git_commit(tmp_path) == f"{clean}-dirty"
    monkeypatch.setenv("PATH", "")
    assert git_commit(tmp_path) is None
