"""Samples that were answered under every setting, but not timed: many more to learn accuracies from."""

# Shape suffixes: N = samples, S = settings.

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from profiling.controllers.outcomes import Codes, Mask, Outcomes, join_outcomes, read_outcomes
from profiling.controllers.requests import Requests
from profiling.datasets.image_split import Part
from profiling.schema import AnswerRecord, ProfileError

_SAMPLE: Final = ["dataset", "image_id", "sample_id"]
_MODEL_FIELDS: Final = ("model_shape", "weights_digest", "random_weights", "router_skew", "match_router_mass")


def read_answered(files: Sequence[Path | str], profile: Outcomes, *, dataset_names: Sequence[str]) -> Outcomes:
    """Read the answers of the model of a profile, whatever devices gave them. Times in the files are read, too.

    Args:
        files: Files of ``answer-grid``, folders or glob patterns, each of one device.
        profile: What was measured.
        dataset_names: Keep these datasets only; all if empty.

    Raises:
        ProfileError: If a file is bad, or the answers are of other settings, another model or a dataset that the
            profile has not.
    """
    parts = [read_outcomes([file], record=AnswerRecord) for file in files]
    for file, part in zip(files, parts, strict=True):
        _check_model(part, profile, where=f"answers: {file}")
    answered = join_outcomes(parts)
    if dataset_names:
        answered = answered.take(answered.samples["dataset"].isin(dataset_names).to_numpy(dtype=np.bool_))
    known = set(profile.samples["dataset"])
    strange = sorted(set(answered.samples["dataset"]) - known)
    if strange:
        raise ProfileError(f"answers: dataset: the profile has {', '.join(sorted(known))}, got {strange[0]!r}")
    return answered


def _check_model(answered: Outcomes, profile: Outcomes, *, where: str) -> None:
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


def without_pictures_of(answered: Outcomes, measured: Outcomes) -> Outcomes:
    """Leave out what was answered about a measured picture, whatever its part."""
    is_measured_N = answered.samples["image_id"].isin(measured.samples["image_id"])
    return answered.take(~is_measured_N.to_numpy(dtype=np.bool_))


def with_borrowed_times(answered: Outcomes, measured: Outcomes, *, seed: int) -> Outcomes:
    """Give each sample the times of a measured one of its dataset, drawn at random.

    So training meets times that scatter as measured ones do, which no estimate of their middle shows. Totals are set
    right for the sample's own number of output tokens, at the mean time of a decode step.

    Args:
        answered: Samples without times.
        measured: The training part of a profile with the same settings.
        seed: Of the draws.

    Raises:
        ValueError: If no sample of a dataset was measured under every setting.
    """
    lenders_N = _lenders(answered, measured, seed=seed)
    lent = measured.take(lenders_N)
    more_tokens_NS = answered.output_tokens_NS - lent.output_tokens_NS
    # Where every answer was a single token, no step was timed.
    token_ms_S = np.nansum(measured.token_ms_NS, axis=0) / np.isfinite(measured.token_ms_NS).sum(axis=0).clip(min=1)
    total_ms_NSR = lent.latency_runs_NSR + (more_tokens_NS * token_ms_S)[:, :, None]
    return replace(
        answered,
        latency_runs_NSR=np.maximum(total_ms_NSR, lent.before_decode_ms_NS[:, :, None]),
        before_decode_ms_NS=lent.before_decode_ms_NS,
        prefill_ms_NS=lent.prefill_ms_NS,
        token_ms_NS=lent.token_ms_NS,
        preprocess_ms_NT=lent.preprocess_ms_NT,
        vision_done_ms_NT=lent.vision_done_ms_NT,
    )


def _lenders(answered: Outcomes, measured: Outcomes, *, seed: int) -> Codes:
    rng = np.random.default_rng(seed)
    is_whole_N = measured.is_measured_NS.all(axis=1)
    dataset_N, asked_N = measured.samples["dataset"].to_numpy(), answered.samples["dataset"].to_numpy()
    lenders_N = np.zeros(len(answered), dtype=np.int64)
    for dataset in np.unique(asked_N):
        rows = np.flatnonzero(is_whole_N & (dataset_N == dataset))
        if not len(rows):
            raise ValueError(f"answers: {dataset}: no sample that trains was measured under every setting")
        lenders_N[asked_N == dataset] = rng.choice(rows, size=int((asked_N == dataset).sum()))
    return lenders_N
