"""What the model's own first layers say of a request, as one vector."""

# Shape suffixes: B = requests, S = ids of the prompt, C = crops, T = vision tokens of a crop, N = C * T, D = width.

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
    is_kept_BN = (inputs.token_index >= 0).flatten(1).float()
    shown_B1D = is_kept_BN[:, None] @ vision_tokens_BCTD.flatten(1, 2).float()
    return shown_B1D[:, 0] / is_kept_BN.sum(dim=1, keepdim=True).clamp(min=1)
