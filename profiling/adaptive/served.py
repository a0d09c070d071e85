"""What came of one request under its budget."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Served:
    """One row of a run. Times are milliseconds.

    On a GPU, preprocessing is what the host did for it, the components are what the device did, and the two overlap;
    the latency is one reading of the host's clock.

    Args:
        dataset: Name of the dataset.
        split: Part that it was drawn from.
        sample_id: Name of the sample there.
        image_id: Name of its picture.
        question: What was asked.
        prediction: What was answered.
        accuracy: How right that is, 0 to 1; ``None`` where no right answer is known.
        metric: How it was scored.
        budget_ms: Time allowed from raw input to last token.
        margin: Share of it that was kept back.
        latency_ms: Time taken, controller included.
        is_infeasible: Whether no setting was expected in time.
        is_truncated: Whether the answer was cut off at the deadline.
        tier: Image tier that was chosen.
        top_k: Experts per token.
        num_active_blocks: How many blocks ran.
        features_ms: Making what the controller reads, the copy of the picture's embedding included.
        controller_ms: Both decisions.
        preprocess_ms: Words to ids, picture to crops.
        vision_encoder_ms: Vision encoder.
        projector_ms: Connector.
        prefill_ms: Prefill.
        decode_ms: All steps after it.
        remaining_ms: What was left of the budget, margin taken off, at the last decision.
        expected_ms: What a setting of the profile is expected to take for an answer of this length; ``None`` without a
            latency table.
        vision_tokens: Vision tokens.
        text_tokens: Other ids of the prompt.
        output_tokens: Tokens of the answer.
    """

    dataset: str
    split: str
    sample_id: str
    image_id: str
    question: str
    prediction: str
    accuracy: float | None
    metric: str | None
    budget_ms: float
    margin: float
    latency_ms: float
    is_infeasible: bool
    is_truncated: bool
    tier: str
    top_k: int
    num_active_blocks: int
    features_ms: float
    controller_ms: float
    preprocess_ms: float
    vision_encoder_ms: float
    projector_ms: float
    prefill_ms: float
    decode_ms: float
    remaining_ms: float
    expected_ms: float | None
    vision_tokens: int
    text_tokens: int
    output_tokens: int

    @property
    def key(self) -> tuple[str, str, str, float]:
        """What names the request, see ``BudgetedRequest``."""
        return self.dataset, self.split, self.sample_id, self.budget_ms

    @property
    def goodput(self) -> float:
        """Its accuracy, nothing if it came late; nothing, too, where no right answer is known."""
        return 0.0 if self.is_late else self.accuracy or 0.0

    @property
    def is_late(self) -> bool:
        """Whether it took longer than allowed."""
        return self.latency_ms > self.budget_ms

    @property
    def is_in_time(self) -> bool:
        """Whether the promise was kept: the answer is there, and a setting was expected to make that."""
        return not self.is_late and not self.is_infeasible
