import pytest
import torch

from models.kv_cache import KVCache
from tests.small_models import tiny_config


def cache_of(num_slots: int, *, dtype: torch.dtype = torch.float32) -> KVCache:
    config = tiny_config(num_kv_heads=2)  # two heads of 8 numbers
    return KVCache.allocate(
        config, num_slots=num_slots, batch_size=3, capacity=10, device=torch.device("cpu"), dtype=dtype
    )


@pytest.mark.parametrize("num_slots", [1, 2, 5])
def test_a_cache_holds_memory_for_the_active_blocks_only(num_slots: int) -> None:
    assert cache_of(num_slots).num_bytes == num_slots * 2 * 3 * 2 * 10 * 8 * 4
    assert cache_of(num_slots, dtype=torch.bfloat16).num_bytes == num_slots * 2 * 3 * 2 * 10 * 8 * 2


def test_tokens_come_back_in_order_and_blocks_do_not_mix() -> None:
    cache = cache_of(2)
    parts = [torch.randn(2, 2, 3, 2, length, 8) for length in (4, 1, 2)]
    for step, part in enumerate(parts):
        before = torch.cat(parts[: step + 1], dim=4)
        for slot in range(2):
            key, value = cache.append(slot, part[slot, 0], part[slot, 1])
            assert torch.equal(key, before[slot, 0])
            assert torch.equal(value, before[slot, 1])
        cache.advance(part.shape[4])
    assert cache.length == 7


def test_the_length_grows_only_when_all_blocks_have_stored() -> None:
    cache = cache_of(1)
    token = torch.randn(3, 2, 1, 8)
    cache.append(0, token, token)
    assert cache.length == 0
    cache.advance(1)
    assert cache.length == 1


def test_storing_needs_no_new_memory() -> None:
    cache = cache_of(1)
    token = torch.randn(3, 2, 1, 8)
    first, _ = cache.append(0, token, token)
    cache.advance(1)
    second, _ = cache.append(0, token, token)
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
