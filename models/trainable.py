"""A Molmo as it is trained: logits of the text behind the image, and what the vision tokens are said to show."""

# Shape suffixes: B = requests, S = ids of the text, V = vocabulary, C = crops, T = pooled tokens in a crop, D = width.

from torch import Tensor, nn

from models.config import MolmoConfig
from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.molmo import Molmo, token_positions
from models.patch_labels import PatchLabels


class TrainableMolmo(nn.Module):
    """A model with the head that only its training needs.

    Args:
        config: Shape of the model.
        num_labels: How many things a patch may show; 0 leaves the head out.
    """

    def __init__(self, config: MolmoConfig, num_labels: int) -> None:
        super().__init__()
        self.molmo = Molmo(config)
        self.patch_labels = PatchLabels(config.hidden_dim, num_labels) if num_labels else None

    def forward(
        self, inputs: ModelInputs, setting: KnobSetting, *, num_text_ids: int, wants_labels: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Run a batch whose texts are the last ids of each request.

        Args:
            inputs: The batch; padding is behind the texts.
            setting: Knobs of the whole batch.
            num_text_ids: Ids of a text, its padding included.
            wants_labels: Whether to name what patches show.

        Returns:
            Logits of the texts, ``(batch, text, embedding_size)``, and those of ``PatchLabels`` if wanted.
        """
        model = self.molmo
        vision_tokens_BCTD = model.encode_images(inputs)
        hidden_BSD = model.language_model(
            model.embed(inputs, vision_tokens_BCTD),
            token_positions(inputs),
            active_blocks=setting.active_blocks,
            top_k=setting.top_k,
        )
        logits_BSV: Tensor = model.language_model.head(hidden_BSD[:, -num_text_ids:])
        if not wants_labels or self.patch_labels is None or vision_tokens_BCTD is None:
            return logits_BSV, None
        return logits_BSV, self.patch_labels(vision_tokens_BCTD)
