"""Read and write Molmo checkpoints: a local Hugging Face snapshot directory, or a released shape without weights."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.checkpoint_layout import Piece, checkpoint_layout
from models.config import MolmoConfig, released_hf_config
from models.molmo import Molmo
from models.released import RELEASED

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_MAX_LISTED = 20


class CheckpointError(ValueError):
    """A checkpoint that cannot be read; says which file and what was expected."""


def load_molmo(
    source: str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    match_router_mass: bool = False,
) -> Molmo:
    """Read a model from a snapshot directory, tensor by tensor into its final place.

    The files are memory-mapped and each tensor is copied once, so memory peaks at the model plus one tensor.

    Args:
        source: A snapshot directory, or a hub id whose snapshot is in the local Hugging Face cache.
        device: Where the weights go.
        dtype: Type of the weights; as stored in the first tensor if ``None``.
        match_router_mass: See ``MolmoConfig``.

    Raises:
        CheckpointError: If the snapshot is not there or its tensors are not those of a Molmo of its config's shape.
    """
    directory = snapshot_directory(source)
    config = MolmoConfig.from_hf(read_hf_config(directory), source=str(directory / "config.json"))
    config = replace(config, match_router_mass=match_router_mass)
    file_by_key = _files_by_key(directory)
    model = _empty_model(config)
    pieces = checkpoint_layout(config)
    parameters = dict(model.named_parameters())
    _check_tensors(directory, file_by_key, pieces, parameters)
    model = model.to(dtype=dtype or _stored_dtype(directory, file_by_key)).to_empty(device=device)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for file, members in _group_by_file(pieces, file_by_key).items():
            with safe_open(directory / file, framework="pt") as tensors:
                for piece in members:
                    parameters[piece.parameter][piece.part].copy_(tensors.get_tensor(piece.key))
    return model.eval()


def random_molmo(
    source: str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    router_skew: float = 0.0,
    match_router_mass: bool = False,
) -> Molmo:
    """Build a model without weights: right in shape and time, meaningless in what it says.

    Args:
        source: Name of a released model, or a snapshot directory of which only ``config.json`` is read.
        device: Where the weights go.
        dtype: Type of the weights.
        seed: Of the random weights.
        router_skew: Spread of the routers' rows: 0 routes almost evenly over the experts; at ``s`` the rows are scaled
            by ``exp(s * z)`` with a normal ``z``, so that some experts are chosen far more often than others.
        match_router_mass: See ``MolmoConfig``.

    Raises:
        ValueError: If the source is neither.
    """
    if source in RELEASED:
        hf_config = released_hf_config(source)
    elif Path(source, "config.json").is_file():
        hf_config = read_hf_config(Path(source))
    else:
        raise ValueError(
            f"model: {source!r} is neither a directory with a config.json nor a released model ({', '.join(RELEASED)})"
        )
    config = replace(MolmoConfig.from_hf(hf_config, source=source), match_router_mass=match_router_mass)
    model = _empty_model(config).to(dtype=dtype).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1.0)
            elif name.endswith(".bias"):
                parameter.zero_()
            else:
                parameter.normal_(std=0.02, generator=generator)
            if name.endswith("router.linear.weight") and router_skew:
                z_E1 = torch.randn(len(parameter), 1, generator=generator, device=device)
                parameter.mul_((router_skew * z_E1).exp().to(dtype))
    return model.eval()


def save_molmo(
    model: Molmo,
    directory: Path,
    *,
    hf_config: Mapping[str, Any],
    tokenizer_files: Sequence[Path] = (),
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Write a snapshot directory in the released models' layout. The directory appears whole or not at all.

    Args:
        model: What to save.
        directory: New directory.
        hf_config: Content of ``config.json``.
        tokenizer_files: Files to copy beside the weights.
        max_shard_bytes: Most bytes of tensors in one file.

    Raises:
        ValueError: If the directory exists or the config describes another shape than the model's.
    """
    if directory.exists():
        raise ValueError(f"save_molmo: {directory} exists already; choose a new directory")
    # The option that no released config has does not change what is saved.
    if MolmoConfig.from_hf(hf_config) != replace(model.config, match_router_mass=False):
        raise ValueError("save_molmo: hf_config describes another shape than the model has")
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "config.json").write_text(json.dumps(hf_config, indent=2) + "\n")
    for file in tokenizer_files:
        shutil.copy(file, partial / file.name)
    _write_shards(model, partial, max_shard_bytes)
    partial.rename(directory)


def snapshot_directory(source: str) -> Path:
    """Find a snapshot: the directory itself, or the cached one of a hub id. Nothing is downloaded.

    Raises:
        CheckpointError: If it is not on this machine; says how to fetch it.
    """
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(source, local_files_only=True))
    except HFValidationError as err:
        raise CheckpointError(f"model: {source!r} is neither a directory nor a hub id") from err
    except LocalEntryNotFoundError as err:
        raise CheckpointError(
            f"model: {source!r} is neither a directory nor a hub id in the local cache; "
            f"fetch it with `hf download {source} --local-dir DIR` and give DIR"
        ) from err


def read_hf_config(directory: Path) -> dict[str, Any]:
    """Read ``config.json`` of a snapshot.

    Raises:
        CheckpointError: If it is missing or not JSON.
    """
    return _read_json(directory / "config.json")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise CheckpointError(f"{path}: not found; a snapshot directory holds a {path.name}") from err
    except ValueError as err:
        raise CheckpointError(f"{path}: not JSON: {err}") from err
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: must hold a JSON object, got a {type(content).__name__}")
    return content


def _empty_model(config: MolmoConfig) -> Molmo:
    with torch.device("meta"):
        return Molmo(config)


def _files_by_key(directory: Path) -> dict[str, str]:
    """Tell which file holds which tensor."""
    if (directory / _INDEX).is_file():
        weight_map: dict[str, str] | None = _read_json(directory / _INDEX).get("weight_map")
        if not weight_map:
            raise CheckpointError(f"{directory / _INDEX}: must say in weight_map which file holds which tensor")
        absent = sorted({file for file in weight_map.values() if not (directory / file).is_file()})
        if absent:
            raise CheckpointError(f"{directory / _INDEX}: names files that are not there: {', '.join(absent)}")
        return weight_map
    if not (directory / _SINGLE).is_file():
        raise CheckpointError(f"{directory}: holds neither {_SINGLE} nor {_INDEX}")
    with _open(directory / _SINGLE) as tensors:
        return dict.fromkeys(tensors.keys(), _SINGLE)


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as err:
        raise CheckpointError(f"{path}: not a whole safetensors file: {err}") from err


def _check_tensors(
    directory: Path, file_by_key: Mapping[str, str], pieces: Sequence[Piece], parameters: Mapping[str, nn.Parameter]
) -> None:
    """Compare names and shapes in the files with the model's, and list every difference."""
    expected = {piece.key: tuple(parameters[piece.parameter][piece.part].shape) for piece in pieces}
    problems = [f"missing {key}" for key in expected if key not in file_by_key]
    problems += [f"unexpected {key}" for key in file_by_key if key not in expected]
    present = [piece for piece in pieces if piece.key in file_by_key]
    for file, members in _group_by_file(present, file_by_key).items():
        with _open(directory / file) as tensors:
            stored = set(tensors.keys())
            for piece in members:
                if piece.key not in stored:
                    problems.append(f"missing {piece.key} (the index says {file})")
                    continue
                shape = tuple(tensors.get_slice(piece.key).get_shape())
                if shape != expected[piece.key]:
                    problems.append(f"{piece.key} has shape {shape}, expected {expected[piece.key]}")
    if problems:
        more = f"; and {len(problems) - _MAX_LISTED} more" if len(problems) > _MAX_LISTED else ""
        raise CheckpointError(
            f"{directory}: {len(problems)} tensors differ: " + "; ".join(problems[:_MAX_LISTED]) + more
        )


def _stored_dtype(directory: Path, file_by_key: Mapping[str, str]) -> torch.dtype:
    key, file = next(iter(file_by_key.items()))
    with _open(directory / file) as tensors:
        tensor: Tensor = tensors.get_tensor(key)
        return tensor.dtype


def _group_by_file(pieces: Iterable[Piece], file_by_key: Mapping[str, str]) -> dict[str, list[Piece]]:
    groups: dict[str, list[Piece]] = {}
    for piece in pieces:
        groups.setdefault(file_by_key[piece.key], []).append(piece)
    return groups


def _write_shards(model: Molmo, directory: Path, max_shard_bytes: int) -> None:
    """Write the tensors, one file at a time, and an index if there are several files."""
    parameters = dict(model.named_parameters())
    shards: list[list[Piece]] = [[]]
    num_bytes = 0
    for piece in checkpoint_layout(model.config):
        piece_bytes = parameters[piece.parameter][piece.part].nbytes
        if shards[-1] and num_bytes + piece_bytes > max_shard_bytes:
            shards.append([])
            num_bytes = 0
        shards[-1].append(piece)
        num_bytes += piece_bytes
    names = (
        [_SINGLE]
        if len(shards) == 1
        else [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    )
    for name, pieces in zip(names, shards, strict=True):
        tensors = {p.key: parameters[p.parameter].detach()[p.part].contiguous().cpu() for p in pieces}
        save_file(tensors, directory / name, metadata={"format": "pt"})
    if len(shards) > 1:
        weight_map = {piece.key: name for name, pieces in zip(names, shards, strict=True) for piece in pieces}
        total = sum(parameter.nbytes for parameter in parameters.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (directory / _INDEX).write_text(json.dumps(index, indent=2) + "\n")
