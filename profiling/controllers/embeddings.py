"""What the model's own first layers say of a request, as one vector."""

# Shape suffixes: B = requests, S = ids of the prompt, C = crops, T = vision tokens of a crop, D = width.

from torch import Tensor

from models.inputs import PAD, ModelInputs
from models.molmo import Glance, Molmo


def question_embedding(model: Molmo, prompt_ids_BS: Tensor) -> Tensor:
    """Average the embeddings of a prompt's tokens.

    Args:
        model: The model.
        prompt_ids_BS: ``(requests, ids)`` int64 of the question alone, padded with -1.

    Returns:
        ``(requests, width)`` float32.
    """
    is_there = (prompt_ids_BS != PAD)[:, :, None]
    embedded_BSD = model.language_model.embed(prompt_ids_BS).float() * is_there
    return embedded_BSD.sum(dim=1) / is_there.sum(dim=1).clamp(min=1)


def glance_embedding(glance: Glance) -> Tensor:
    """Average the vision tokens of overviews, all of which reach the language model.

    Returns:
        ``(requests, width)`` float32.
    """
    return glance.tokens.float().mean(dim=1)


def vision_embedding(inputs: ModelInputs, vision_tokens_BCTD: Tensor) -> Tensor:
    """Average the vision tokens that reach the language model.

    Args:
        inputs: The requests.
        vision_tokens_BCTD: ``(requests, crops, tokens, width)``: what ``Molmo.encode_images`` made of them.

    Returns:
        ``(requests, width)`` float32.
    """
    assert inputs.token_index is not None, "a request with vision tokens has their places"
    is_kept = inputs.token_index >= 0
    shown = vision_tokens_BCTD.float() * is_kept[..., None]
    return shown.sum(dim=(1, 2)) / is_kept.sum(dim=(1, 2))[:, None].clamp(min=1)
