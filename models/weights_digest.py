"""Tell a model's weights from another's without reading all of them."""

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from models.checkpoint import CheckpointError

_PIECE_BYTES: Final = 2**18
_FIRST_BYTES: Final = 2**14
_LOOK_BYTES: Final = 2**12


@dataclass(frozen=True, kw_only=True, order=True)
class _StoredTensor:
    """Where a tensor lies.

    Args:
        name: Name of the tensor.
        kind: Its type and shape.
        path: Its file.
        start: Its first byte in the file.
        end: One behind its last.
    """

    name: str
    kind: str
    path: Path
    start: int
    end: int


def weights_digest(directory: Path) -> str:
    """Return a digest of the weights in a snapshot, whatever files they are shared out among.

    It covers names, types and shapes of all tensors and, of each tensor, the first 16 KiB and the first 4 KiB of every
    further 256 KiB. So a tensor that differs throughout, as a trained one does, is told apart however small it is;
    single rows of a large one, such as an embedding, may not be. Without weights it is the digest of nothing.

    Args:
        directory: The snapshot; its ``.safetensors`` files are read.

    Raises:
        CheckpointError: If a file is damaged.
    """
    digest = hashlib.sha256()
    stored = sorted(tensor for path in directory.glob("*.safetensors") for tensor in _stored_tensors(path))
    for tensor in stored:
        digest.update(f"{tensor.name} {tensor.kind}\n".encode())
        with tensor.path.open("rb", buffering=0) as file:
            for seen in _looked_at(file, tensor):
                digest.update(seen)
    return digest.hexdigest()


def _stored_tensors(path: Path) -> list[_StoredTensor]:
    """Read the header of a safetensors file: its length in 8 bytes, then JSON, then the tensors."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size - 8:
                raise ValueError(f"its header is said to have {length} bytes, it has {size}")
            header: dict[str, Any] = json.loads(file.read(length))
        header.pop("__metadata__", None)
        tensors = [
            _StoredTensor(
                name=name,
                kind=f"{described['dtype']} {described['shape']}",
                path=path,
                start=8 + length + described["data_offsets"][0],
                end=8 + length + described["data_offsets"][1],
            )
            for name, described in header.items()
        ]
    except (struct.error, ValueError, LookupError, TypeError, AttributeError) as err:
        raise CheckpointError(f"{path}: not a whole safetensors file: {err}") from err
    if max((tensor.end for tensor in tensors), default=0) > size:
        raise CheckpointError(f"{path}: not a whole safetensors file: tensors go on behind its {size} bytes")
    return tensors


def _looked_at(file: BinaryIO, tensor: _StoredTensor) -> Iterator[bytes]:
    for start in range(tensor.start, tensor.end, _PIECE_BYTES):
        length = _FIRST_BYTES if start == tensor.start else _LOOK_BYTES
        file.seek(start)
        yield file.read(min(length, tensor.end - start))
