"""Samples that were answered under every setting, but not timed: many more to learn accuracies from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from profiling.controllers.outcomes import Mask, Outcomes, read_outcomes
from profiling.controllers.requests import Requests
from profiling.datasets.image_split import Part
from profiling.schema import AnswerRecord, ProfileError

_SAMPLE: Final = ["dataset", "image_id", "sample_id"]
_MODEL_FIELDS: Final = ("model_shape", "weights_digest", "random_weights", "router_skew", "match_router_mass")


def read_answered(files: Sequence[Path | str], profile: Outcomes, *, dataset_names: Sequence[str]) -> Outcomes:
    """Read the answers of the model of a profile. Any times that the files have are read, too.

    Args:
        files: Files of ``answer-grid``, folders or glob patterns.
        profile: What was measured.
        dataset_names: Keep these datasets only; all if empty.

    Raises:
        ProfileError: If a file is bad, or the answers are of other settings, another model or a dataset that the
            profile has not.
    """
    answered = read_outcomes(files, dataset_names=dataset_names, record=AnswerRecord)
    where = f"answers: {', '.join(map(str, files))}"
    if answered.grid != profile.grid:
        knobs = [knob for knob, levels in vars(answered.grid).items() if levels != getattr(profile.grid, knob)]
        raise ProfileError(
            f"{where}: {knobs[0]}: must be those of the profile, {getattr(profile.grid, knobs[0])}, got "
            f"{getattr(answered.grid, knobs[0])}"
        )
    for name in _MODEL_FIELDS:
        own, measured = getattr(answered.environment, name), getattr(profile.environment, name)
        if own is not None and measured is not None and own != measured:
            raise ProfileError(f"{where}: are of another model than the profile: {name} differs")
    known = set(profile.samples["dataset"])
    strange = sorted(set(answered.samples["dataset"]) - known)
    if strange:
        raise ProfileError(f"{where}: dataset: the profile has {', '.join(sorted(known))}, got {strange[0]!r}")
    return answered


def may_train(answered: Outcomes, parts: Mapping[Part, Requests]) -> Mask:
    """Tell which samples add to the training part of a profile.

    Left out are those that were measured there, and those whose image is in another part, whatever the dataset.

    Args:
        answered: The samples.
        parts: Those of the profile.

    Returns:
        ``(samples,)``.
    """
    elsewhere = [image for part, members in parts.items() if part != "train" for image in members.image_ids]
    measured = set(parts["train"].outcomes.samples[_SAMPLE].itertuples(index=False, name=None))
    is_measured = [sample in measured for sample in answered.samples[_SAMPLE].itertuples(index=False, name=None)]
    is_elsewhere = answered.samples["image_id"].isin(elsewhere)
    adds: Mask = ~(np.asarray(is_elsewhere) | np.asarray(is_measured))
    return adds
