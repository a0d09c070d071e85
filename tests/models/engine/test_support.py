import pytest

from models.engine.support import unsupported
from tests.small_models import tiny_config


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "a dense feed-forward layer"),
        ({"num_experts": 4, "top_k": 2}, "attention without norms of query and key"),
        ({"num_experts": 4, "top_k": 2, "qk_norm": True, "num_kv_heads": 2}, "grouped key and value heads"),
        ({"num_experts": 4, "top_k": 2, "qk_norm": True, "qkv_bias": True}, "biases of query, key and value"),
        ({"num_experts": 4, "top_k": 2, "qk_norm": True, "norm_after": True}, "norms behind the layers"),
        ({"num_experts": 4, "top_k": 2, "qk_norm": True}, None),
    ],
)
def test_what_the_kernels_cannot_run_is_said(changes: dict[str, int | bool], reason: str | None) -> None:
    assert unsupported(tiny_config(**changes)) == reason
