"""Recordings share memory that must outlive each of them."""

import gc
from functools import partial

import pytest
import torch
from torch import Tensor

from models.engine.recording import CudaGraphs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def _multiply(a: Tensor, b: Tensor | float, out: Tensor) -> None:
    out.copy_(a @ b if isinstance(b, Tensor) else a * b)


def test_a_call_can_be_recorded_once_all_earlier_recordings_are_gone() -> None:
    record = CudaGraphs(torch.device("cuda"))
    x = torch.arange(8.0, device="cuda")
    y = torch.zeros_like(x)
    for factor in (2.0, 3.0):
        replay = record(partial(_multiply, x, factor, y))
        y.zero_()
        replay()
        assert y.tolist() == (x * factor).tolist()
        del replay
        gc.collect()


def test_recordings_survive_the_library_freeing_its_workspaces() -> None:
    record = CudaGraphs(torch.device("cuda"))
    a, b = torch.randn(2, 512, 512, device="cuda", dtype=torch.bfloat16)
    product = torch.empty_like(a)
    replay = record(partial(_multiply, a, b, product))
    expected = a @ b
    torch._C._cuda_clearCublasWorkspaces()  # as torch.compile does
    held = [torch.full((4 << 20,), 7, dtype=torch.uint8, device="cuda") for _ in range(16)]  # reuses what was freed
    product.zero_()
    replay()
    assert product.tolist() == expected.tolist()
    assert all(bool((block == 7).all()) for block in held)  # and nothing was written there
