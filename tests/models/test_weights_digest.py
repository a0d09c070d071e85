from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoint import CheckpointError
from models.weights_digest import weights_digest

FILE = "model.safetensors"


def weights() -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(0)
    return {
        "a.router": torch.randn(8, 16, generator=draws),
        "b.encoder": torch.randn(600, 1024, generator=draws),
        "c.head": torch.randn(100, generator=draws),
    }


def digest(tensors: dict[str, Tensor], folder: str, *, metadata: dict[str, str] | None = None) -> str:
    Path(folder).mkdir()
    save_file(tensors, Path(folder, FILE), metadata=metadata)
    return weights_digest(Path(folder))


def test_a_small_tensor_before_more_than_a_mib_of_others_counts() -> None:
    trained = weights()
    trained["a.router"] = trained["a.router"] + 1e-3
    assert digest(trained, "trained") != digest(weights(), "before")


def test_the_middle_and_the_end_of_a_tensor_count() -> None:
    found = {digest(weights(), "before")}
    for row in (3, 64, 576):  # of 4 KiB each: in the first 16 KiB, and where pieces of 256 KiB begin
        changed = weights()
        changed["b.encoder"][row] += 1
        found.add(digest(changed, f"row_{row}"))
    for place in (0, 99):
        changed = weights()
        changed["c.head"][place] += 1
        found.add(digest(changed, f"place_{place}"))
    assert len(found) == 6


def test_names_types_and_shapes_count() -> None:
    renamed = {f"x.{name}": value for name, value in weights().items()}
    turned = {**weights(), "a.router": weights()["a.router"].reshape(16, 8)}
    as_bits = {**weights(), "a.router": weights()["a.router"].view(torch.int32)}
    assert len({digest(each, f"{place}") for place, each in enumerate([weights(), renamed, turned, as_bits])}) == 4


def test_neither_files_nor_notes_count() -> None:
    whole = digest(weights(), "whole")
    assert digest(weights(), "noted", metadata={"format": "pt"}) == whole
    Path("shared_out").mkdir()
    for place, (name, value) in enumerate(weights().items()):
        save_file({name: value}, Path("shared_out", f"model-{3 - place}.safetensors"))
    assert weights_digest(Path("shared_out")) == whole


def test_a_damaged_file_is_named() -> None:
    digest(weights(), "model")
    path = Path("model", FILE)
    content = path.read_bytes()
    for damaged in (b"", content[:5], content[:100], content[:-1], b"\x02" + 7 * b"\0" + b"[]"):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"model/model\.safetensors: not a whole safetensors file"):
            weights_digest(Path("model"))


def test_without_weights_it_is_that_of_nothing() -> None:
    assert weights_digest(Path()).startswith("e3b0c44298fc1c14")
