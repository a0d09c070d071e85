"""Embeddings of samples on disk, so that training needs no images and no model."""

# Shape suffixes: N = samples, T = tiers, D = width of the language model.

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from models.checkpoint import snapshot_directory
from models.knobs import Tiling
from models.weights_digest import weights_digest
from profiling.controllers.features import Features, free_features_of
from profiling.controllers.outcomes import KEY, Outcomes
from profiling.files import written_whole

Half = NDArray[np.float16]
SampleKey = tuple[str, str, str]
"""Dataset, split and id of a sample."""

_ENTRY: Final = "punctual"
_QUESTION: Final = "question"
_GLANCE: Final = "glance"
_VISION: Final = "vision"


class FeatureFileError(ValueError):
    """A feature file cannot be read, or belongs to another model or other samples."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureFile:
    """Embeddings of samples by one model.

    Args:
        model_digest: Digest of the model's weights.
        model_shape: Content of its ``config.json``.
        tiers: Names of the tiers that the vision embeddings are of.
        tiling: How the tiers were applied.
        samples: What each row is about.
        question_ND: ``(samples, width)`` float16: mean embedding of the prompt's tokens.
        glance_ND: ``(samples, width)`` float16: mean vision token of the overview; width 0 in a file without.
        vision_NTD: ``(samples, tiers, width)`` float16: mean vision token at each tier.
    """

    model_digest: str
    model_shape: Mapping[str, Any]
    tiers: tuple[str, ...]
    tiling: Tiling
    samples: tuple[SampleKey, ...]
    question_ND: Half
    glance_ND: Half
    vision_NTD: Half

    def write(self, path: Path) -> None:
        """Write a ``.safetensors`` file; it appears whole or not at all."""
        described = {
            "model_digest": self.model_digest,
            "model_shape": self.model_shape,
            "tiers": self.tiers,
            "tiling": self.tiling,
            "samples": self.samples,
        }
        tensors = {_QUESTION: self.question_ND, _GLANCE: self.glance_ND, _VISION: self.vision_NTD}
        in_order = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        with written_whole(path) as partial:
            save_file(in_order, partial, metadata={_ENTRY: json.dumps(described)})

    def features_of(self, outcomes: Outcomes, *, source: str) -> Features:
        """Return the features of a profile's samples, in the profile's order.

        Args:
            outcomes: The profile.
            source: What errors call this file.

        Raises:
            FeatureFileError: If the profile is of a model of another shape or of other tiers, or a sample is missing.
            ValueError: If the free features cannot be made, see ``features.free_features_of``.
        """
        shape = outcomes.environment.model_shape
        if shape is not None and shape != self.model_shape:
            differing = sorted(k for k in {*shape, *self.model_shape} if shape.get(k) != self.model_shape.get(k))
            raise FeatureFileError(
                f"{source}: is of another model than the profile: config.json: {differing[0]} differs"
            )
        digest = outcomes.environment.weights_digest
        if digest is not None and digest != self.model_digest:
            raise FeatureFileError(
                f"{source}: was made with other weights than the profile: digest {self.model_digest[:12]}, expected "
                f"{digest[:12]}"
            )
        tiers = tuple(tier.name for tier in outcomes.grid.tiers)
        if tiers != self.tiers:
            raise FeatureFileError(f"{source}: has the tiers {', '.join(self.tiers)}, the profile {', '.join(tiers)}")
        row_of = {key: row for row, key in enumerate(self.samples)}
        keys = [tuple(key) for key in outcomes.samples[list(KEY)].to_numpy()]
        missing = [key for key in keys if key not in row_of]
        if missing:
            raise FeatureFileError(
                f"{source}: lacks {len(missing)} of the profile's {len(keys)} samples, first {'/'.join(missing[0])}; "
                "make the features of this profile with `controller-features`"
            )
        rows = np.asarray([row_of[key] for key in keys])
        return Features(
            free_NF=free_features_of(outcomes),
            question_ND=self.question_ND[rows],
            glance_ND=self.glance_ND[rows],
            vision_NTD=self.vision_NTD[rows],
        )

    def check_model(self, model: str, *, source: str) -> None:
        """Check that a snapshot holds the weights that the embeddings were made with.

        Raises:
            FeatureFileError: If it does not.
        """
        digest = weights_digest(snapshot_directory(model))
        if digest != self.model_digest:
            raise FeatureFileError(
                f"{source}: was made with other weights than those of {model}: digest {self.model_digest[:12]}, "
                f"expected {digest[:12]}"
            )


def read_feature_file(path: Path | str) -> FeatureFile:
    """Read a file of ``FeatureFile.write``.

    Raises:
        FeatureFileError: If the file is missing, damaged, or no feature file.
    """
    if not Path(path).is_file():
        raise FeatureFileError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            described = json.loads((file.metadata() or {})[_ENTRY])
            question_ND, vision_NTD = file.get_tensor(_QUESTION), file.get_tensor(_VISION)
            # Files of earlier versions hold no glance.
            glance_ND = file.get_tensor(_GLANCE) if _GLANCE in file.keys() else question_ND[:, :0]  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as err:
        raise FeatureFileError(f"{path}: is no feature file of `controller-features`: {err}") from err
    return FeatureFile(
        model_digest=described["model_digest"],
        model_shape=described["model_shape"],
        tiers=tuple(described["tiers"]),
        tiling=described["tiling"],
        samples=tuple((dataset, split, sample_id) for dataset, split, sample_id in described["samples"]),
        question_ND=question_ND,
        glance_ND=glance_ND,
        vision_NTD=vision_NTD,
    )


def read_feature_files(paths: Sequence[Path | str]) -> FeatureFile:
    """Read files of one model as if they were one.

    Raises:
        FeatureFileError: If one cannot be read, or is of another model or of other tiers than the first.
    """
    first, *others = files = [read_feature_file(path) for path in paths]
    for path, other in zip(paths[1:], others, strict=True):
        for name in ("model_digest", "model_shape", "tiers", "tiling"):
            if getattr(other, name) != getattr(first, name):
                raise FeatureFileError(f"{path}: {name}: is not that of {paths[0]}; embed both with the same model")
        if other.glance_ND.shape[1] != first.glance_ND.shape[1]:
            raise FeatureFileError(f"{path}: of it and {paths[0]} one holds no glance; make both anew")
    return replace(
        first,
        samples=tuple(sample for file in files for sample in file.samples),
        question_ND=np.concatenate([file.question_ND for file in files]),
        glance_ND=np.concatenate([file.glance_ND for file in files]),
        vision_NTD=np.concatenate([file.vision_NTD for file in files]),
    )
