"""Every test runs in its own working folder, seeded, on one thread."""

import gc
import os
from pathlib import Path

import pytest
import torch

from tests.helpers import GOLDEN

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined, so before any test imports one


@pytest.fixture(autouse=True)
def _isolated(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["main.py"])
    torch.manual_seed(0)
    # Two threads are far slower than one for layers as small as the tests use.
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> None:
    """Keep what lives by now out of later collections: the test runner holds so much that each would take long."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def tiny_model_folder() -> None:
    """Put the shape of the golden mixture, without weights, into the working folder as ``tiny``."""
    Path("tiny").mkdir()
    Path("tiny/config.json").write_text((GOLDEN / "moe" / "config.json").read_text())
