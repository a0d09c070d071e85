"""From a question and an image to what the model is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from models.config import MolmoConfig
from models.image_processor import ImageLike, ImageProcessor, Overview, ProcessedImage
from models.inputs import ModelInputs
from models.knobs import Tier, Tiling
from models.tiling import ImageLayout
from models.tokenizer import SpecialTokens, Tokenizer

_LAYOUTS_KEPT: Final = 256


@dataclass(frozen=True, kw_only=True)
class TrainingExample:
    """A conversation to learn from.

    Args:
        inputs: A batch of one request, without the last id.
        labels: ``(1, sequence)``, int64: the id that follows each input id.
        loss_mask: ``(1, sequence)``, float32: 1 where the label belongs to an answer or ends one, else 0.
    """

    inputs: ModelInputs
    labels: Tensor
    loss_mask: Tensor


class MolmoProcessor:
    """Turn questions and images into model inputs, as the released models expect them.

    A request is the begin id, the image's ids and the text's; or, where the text holds the image placeholder, the
    image's ids take its place. Tier and tiling are arguments of a call; what follows from them and an image's size
    alone is kept on the device.

    Args:
        config: The model's shape.
        special_tokens: Ids with a meaning of their own.
        tokenizer: Text to ids and back. Without one only ``from_token_ids`` can be called.
        device: Where images are cut and requests are handed over; the model's device saves most of the time.
    """

    def __init__(
        self,
        config: MolmoConfig,
        special_tokens: SpecialTokens,
        tokenizer: Tokenizer | None = None,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self.image_processor = ImageProcessor(config, device=device)
        self.special_tokens = special_tokens
        self._tokenizer = tokenizer
        self._token_index = lru_cache(_LAYOUTS_KEPT)(self._token_index_of)

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to ids and back.

        Raises:
            ValueError: If the processor was made without one.
        """
        if self._tokenizer is None:
            raise ValueError("processor: has no tokenizer, so it takes token ids only; give it one to use text")
        return self._tokenizer

    def __call__(
        self,
        question: str,
        image: ImageLike | None = None,
        *,
        style: str | None = None,
        tier: Tier | None = None,
        tiling: Tiling = "target",
    ) -> ModelInputs:
        """Prepare one question.

        Args:
            question: The user's words.
            image: A picture or an RGB array, see ``ImageProcessor``.
            style: Name of an answering style that the models were trained with, such as ``vqa2`` for short answers;
                ``None`` for free conversation.
            tier: Range of crops; ``None`` cuts as the released model does.
            tiling: How the tier is applied, see ``image_layout``.

        Returns:
            A batch of one request.

        Raises:
            ValueError: If the image cannot be used, or the question holds placeholders that do not match it.
        """
        ids = self.tokenizer.encode(format_question(question, style=style))
        return self.from_token_ids(ids, image, tier=tier, tiling=tiling)

    def from_token_ids(
        self,
        text_token_ids: Sequence[int],
        image: ImageLike | Overview | None = None,
        *,
        tier: Tier | None = None,
        tiling: Tiling = "target",
    ) -> ModelInputs:
        """Prepare a text that is tokenised already, with no begin id.

        Args:
            text_token_ids: Ids of the whole prompt, the image placeholder at most once among them.
            image: A picture, an RGB array, or the overview of one, see ``ImageProcessor``.
            tier: Range of crops; ``None`` cuts as the released model does.
            tiling: How the tier is applied, see ``image_layout``.

        Returns:
            A batch of one request.

        Raises:
            ValueError: If the image cannot be used, or the text holds placeholders that do not match it.
        """
        ids = list(text_token_ids)
        num_placeholders = ids.count(self.special_tokens.image_id)
        if num_placeholders > int(image is not None):
            raise ValueError(
                f"text: holds the image placeholder {num_placeholders} times, "
                f"but {'one image was' if image is not None else 'no image was'} given"
            )
        if image is None:
            return ModelInputs(input_ids=self._on_device([self.special_tokens.bos_id, *ids]))
        processed = self.image_processor(image, tier=tier, tiling=tiling)
        split = ids.index(self.special_tokens.image_id) if num_placeholders else 0
        return self._join(ids[:split], processed, ids[split + num_placeholders :])

    def from_batch(
        self,
        text_ids_BS: Tensor,
        pixels: Sequence[Tensor],
        *,
        tier: Tier,
        tiling: Tiling = "target",
    ) -> tuple[ModelInputs, ImageLayout]:
        """Prepare many requests whose images are cut alike, in one go and on the device where they are.

        Args:
            text_ids_BS: ``(batch, sequence)``, int64: tokenised texts, no begin id and no placeholder, padded with -1.
            pixels: The images in the order of the texts, ``(images, 3, height, width)``, uint8, one tensor for each
                size.
            tier: Range of crops.
            tiling: How the tier is applied, see ``image_layout``.

        Returns:
            The batch, each row as ``from_token_ids`` makes it, and how every image was cut.

        Raises:
            ValueError: If images would be cut into different numbers of crops.
        """
        cut = [self.image_processor.cut_batch(part, tier=tier, tiling=tiling) for part in pixels]
        layout = cut[0].layout
        if any(part.layout != layout for part in cut):
            tilings = sorted({(part.layout.rows, part.layout.columns) for part in cut})
            raise ValueError(f"pixels: images of a batch must be cut alike, got crops of {tilings}")
        batch, device = len(text_ids_BS), text_ids_BS.device
        head = torch.tensor([self.special_tokens.bos_id, *self._image_ids(layout)]).to(device, non_blocking=True)
        token_index = self._token_index(layout, 1, device)
        inputs = ModelInputs(
            input_ids=torch.cat([head.expand(batch, -1), text_ids_BS], dim=1),
            crops=torch.cat([part.crops for part in cut]),
            patch_mask=torch.cat([part.patch_mask.expand(len(part.crops), -1, -1) for part in cut]),
            token_index=token_index.expand(batch, -1, -1),
        )
        return inputs, layout

    def training_example(
        self,
        turns: Sequence[tuple[str, str]],
        image: ImageLike | None = None,
        *,
        tier: Tier | None = None,
        tiling: Tiling = "target",
    ) -> TrainingExample:
        """Prepare a conversation to learn its answers from.

        Args:
            turns: Questions and answers in order. A style goes in front of the question by the caller.
            image: A picture or an RGB array; it belongs to the whole conversation and comes first.
            tier: Range of crops; ``None`` cuts as the released model does.
            tiling: How the tier is applied, see ``image_layout``.

        Raises:
            ValueError: If there is no turn, the image cannot be used, or a turn holds an image placeholder.
        """
        if not turns:
            raise ValueError("turns: needs at least one question and answer, got none")
        ids: list[int] = []
        is_answer: list[int] = []
        for question, answer in turns:
            question_ids = self.tokenizer.encode(format_question(question))
            answer_ids = [*self.tokenizer.encode(f" {answer}"), self.special_tokens.eos_id]
            ids += question_ids + answer_ids
            is_answer += [0] * len(question_ids) + [1] * len(answer_ids)
        if self.special_tokens.image_id in ids:
            raise ValueError("turns: an image placeholder cannot be trained on; the image comes first")
        inputs = self.from_token_ids(ids[:-1], image, tier=tier, tiling=tiling)
        input_ids = inputs.input_ids[0]
        labels = torch.cat([input_ids[1:], input_ids.new_tensor(ids[-1:])])
        loss_mask = torch.zeros(len(labels), device=labels.device)
        loss_mask[-len(ids) :] = torch.tensor(is_answer, dtype=torch.float32)
        return TrainingExample(inputs=inputs, labels=labels[None], loss_mask=loss_mask[None])

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of generated ids, up to the first end id."""
        ids = list(token_ids)
        if self.special_tokens.eos_id in ids:
            ids = ids[: ids.index(self.special_tokens.eos_id)]
        return self.tokenizer.decode(ids).strip()

    def _join(self, before: list[int], image: ProcessedImage, after: list[int]) -> ModelInputs:
        head = [self.special_tokens.bos_id, *before]
        return ModelInputs(
            input_ids=self._on_device(head + self._image_ids(image.layout) + after),
            crops=image.crops[None],
            patch_mask=image.patch_mask[None],
            token_index=self._token_index(image.layout, len(head), self.image_processor.device),
        )

    def _on_device(self, ids: list[int]) -> Tensor:
        """``(1, sequence)``, without waiting for what the device was given before."""
        device = self.image_processor.device
        is_cuda = device.type == "cuda"
        return torch.tensor([ids], device="cpu", pin_memory=is_cuda).to(device, non_blocking=is_cuda)

    @torch.inference_mode(mode=False)  # or what is kept could not be trained with later
    def _token_index_of(self, layout: ImageLayout, num_before: int, device: torch.device) -> Tensor:
        """``(1, crops, tokens)``: where the vision tokens of an image behind so many ids go.

        Dropped tokens stay negative. The reference implementation shifts them too, so that 100 ids before the image
        turn them into positions and scatter dropped patches over the text.
        """
        positions = layout.token_positions()
        return positions.where(positions < 0, positions + num_before)[None].to(device)

    def _image_ids(self, layout: ImageLayout) -> list[int]:
        """Ids of an image: overview, then image, each between a start and an end id."""
        special = self.special_tokens
        ids: list[int] = []
        for rows, columns in layout.token_grids:
            row = [special.im_patch_id] * columns + [special.im_col_id]
            ids += [special.im_start_id, *row * rows, special.im_end_id]
        return ids


def format_question(question: str, *, style: str | None = None) -> str:
    """Write a question as the models were trained to read it, leading space included."""
    return f" User: {question if style is None else f'{style}: {question}'} Assistant:"
