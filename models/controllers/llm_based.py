"""The language model as its own controller: a budget token runs through its first blocks, and a head reads it."""

# Shape suffixes: B = requests, S = ids of the prompt, L = S + 1, D = width of the language model, F = features,
# T = tiers, R = settings of a tier.

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.controllers.budget_encoding import EncodingName, budget_encoding
from models.controllers.heads import HeadName, make_head
from models.controllers.prompt_memory import PromptMemory, TierPrompts
from models.controllers.two_stage import TierNetwork, joint_log_prob
from models.engine.base import BegunPrefill
from models.inputs import ModelInputs
from models.knobs import KnobGrid
from models.kv_cache import KVCache
from models.molmo import Molmo, token_positions


class BudgetStates(NamedTuple):
    """Hidden states behind the first blocks.

    Args:
        prompt: ``(batch, sequence, width)``, the same as without a budget token: the remaining blocks go on from them.
        budget: ``(batch, width)`` of the budget token.
    """

    prompt: Tensor
    budget: Tensor


class LLMBased(nn.Module):
    """Logits over top_k and active blocks from a budget token's state (as in AdaLLaVA, Xu et al., 2025).

    The first blocks run in any case, with the trained top_k, so that the decision costs one more token in them and a
    small head. Holds the budget's embedding and the head; the model is an argument, and stays as it is.

    Args:
        levels: ``(levels of top_k, counts of active blocks)``.
        model_dim: Width of the language model.
        num_first_blocks: Blocks that run before the decision.
        fastest_ms: Time below which hardly any setting of the device is in time.
        slowest_ms: Time above which nearly every setting is in time.
        head: ``joint`` or ``factorised``.
        hidden_dim: Units of the head.
        encoding: How budgets are encoded.

    Raises:
        ValueError: If a number is out of its range or a name unknown.
    """

    def __init__(
        self,
        levels: Sequence[int],
        model_dim: int,
        *,
        num_first_blocks: int,
        fastest_ms: float,
        slowest_ms: float,
        head: HeadName = "joint",
        hidden_dim: int = 64,
        encoding: EncodingName = "rbf",
    ) -> None:
        super().__init__()
        if num_first_blocks < 1:
            raise ValueError(f"LLMBased: num_first_blocks: must be 1 or more, got {num_first_blocks}")
        self.num_first_blocks = num_first_blocks
        self.budget = budget_encoding(encoding, fastest_ms, slowest_ms)
        self.embedding = nn.Linear(self.budget.num_units, model_dim)
        self.trunk = nn.Sequential(nn.LayerNorm(model_dim), nn.Linear(model_dim, hidden_dim), nn.GELU())
        self.head = make_head(head, hidden_dim, levels)

    def forward(self, model: Molmo, inputs: ModelInputs, budget_ms_B: Tensor) -> Tensor:
        """Return ``(batch, settings of a tier)`` logits. Gradients reach this network only.

        Args:
            model: A frozen model.
            inputs: The requests, their images cut at the tier that was chosen before.
            budget_ms_B: ``(batch,)`` milliseconds.

        Raises:
            ValueError: If gradients would reach the model, or it has not as many blocks as are to run.
        """
        x_BSD = model.embed(inputs, model.encode_images(inputs))
        return self.decide(self.states(model, inputs, x_BSD, budget_ms_B).budget)

    def states(
        self, model: Molmo, inputs: ModelInputs, x_BSD: Tensor, budget_ms_B: Tensor, *, cache: KVCache | None = None
    ) -> BudgetStates:
        """Run the first blocks over the prompts, a budget token behind each.

        Args:
            model: A frozen model.
            inputs: The requests.
            x_BSD: ``(batch, sequence, width)`` what ``model.embed`` made of them.
            budget_ms_B: ``(batch,)`` milliseconds.
            cache: Where keys and values are put, the first slots; to be advanced by the prompt's length once the
                remaining blocks have run, so that the next token takes the budget token's place.

        Raises:
            ValueError: If gradients would reach the model, or it has not as many blocks as are to run.
        """
        self._check(model)
        end_B = inputs.num_tokens
        is_end_BL = torch.arange(x_BSD.shape[1] + 1, device=x_BSD.device) == end_B[:, None]
        token_BD = self._token(budget_ms_B, x_BSD)
        # Behind each prompt, before its padding: no token of the prompt may see it.
        hidden_BLD = model.language_model.run_blocks(
            torch.where(is_end_BL[:, :, None], token_BD[:, None], F.pad(x_BSD, [0, 0, 0, 1])),
            torch.where(is_end_BL, end_B[:, None], F.pad(token_positions(inputs), [0, 1])),
            active_blocks=range(self.num_first_blocks),
            top_k=model.config.top_k,
            cache=cache,
        )
        request_B = torch.arange(len(end_B), device=x_BSD.device)
        return BudgetStates(hidden_BLD[:, :-1], hidden_BLD[request_B, end_B])

    def begin(
        self, model: Molmo, inputs: ModelInputs, vision_tokens: Tensor | None, budget_ms_B: Tensor
    ) -> tuple[BegunPrefill, Tensor]:
        """Begin the prefill of requests that are to be answered, a budget token behind each.

        Args:
            model: A frozen model.
            inputs: The requests.
            vision_tokens: What ``model.encode_images`` made of them.
            budget_ms_B: ``(batch,)`` milliseconds.

        Returns:
            What an engine goes on from once the setting is known, and the budget tokens' states, ``(batch, width)``.

        Raises:
            ValueError: See ``states``.
        """
        x_BSD = model.embed(inputs, vision_tokens)
        cache = KVCache.allocate(
            model.config,
            num_slots=self.num_first_blocks,
            batch_size=len(x_BSD),
            capacity=x_BSD.shape[1] + 1,
            device=x_BSD.device,
            dtype=x_BSD.dtype,
        )
        states = self.states(model, inputs, x_BSD, budget_ms_B, cache=cache)
        return BegunPrefill(embedded=x_BSD, hidden=states.prompt, cache=cache), states.budget

    def states_behind(self, model: Molmo, prompts: PromptMemory, budget_ms_B: Tensor) -> Tensor:
        """Return the budget tokens' states as ``states`` does, from what the first blocks remember of the prompts.

        Args:
            model: The model that remembers them, frozen.
            prompts: One for each token.
            budget_ms_B: ``(batch,)`` milliseconds.

        Raises:
            ValueError: If gradients would reach the model, or not as many blocks remember as are to run.
        """
        self._check(model)
        if len(prompts.memory) != self.num_first_blocks:
            raise ValueError(
                f"LLMBased: num_first_blocks: {len(prompts.memory)} blocks remember, got {self.num_first_blocks}"
            )
        hidden_B1D = model.language_model.run_blocks(
            self._token(budget_ms_B, model.language_model.head.weight)[:, None],
            prompts.num_tokens_B[:, None],
            active_blocks=range(self.num_first_blocks),
            top_k=model.config.top_k,
            mask=prompts.mask,
            cache=prompts,
        )
        return hidden_B1D[:, 0]

    def states_at_tiers(self, prompts: TierPrompts, budget_ms_BT: Tensor) -> Tensor:
        """Return the budget tokens' states behind the prompts at every tier, ``(batch, tiers, width)``.

        Args:
            prompts: The requests' prompts.
            budget_ms_BT: ``(batch, tiers)`` milliseconds.
        """
        by_tier = [
            self.states_behind(prompts.model, prompts.at_tier(tier), budget_ms_B)
            for tier, budget_ms_B in enumerate(budget_ms_BT.unbind(dim=1))
        ]
        return torch.stack(by_tier, dim=1)

    def decide(self, state_BD: Tensor) -> Tensor:
        """Return the ``(batch, settings of a tier)`` logits that the budget tokens' states lead to."""
        logits_BR: Tensor = self.head(self.trunk(state_BD.float()))
        return logits_BR

    def _token(self, budget_ms_B: Tensor, like: Tensor) -> Tensor:
        """Return the budget tokens, ``(batch, width)``, of the type and on the device of another tensor."""
        token_BD: Tensor = self.embedding(self.budget(budget_ms_B)).to(like)
        return token_BD

    def _check(self, model: Molmo) -> None:
        if self.num_first_blocks > model.config.num_blocks:
            raise ValueError(
                f"LLMBased: num_first_blocks: the model has {model.config.num_blocks}, got {self.num_first_blocks}"
            )
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in model.parameters()):
            raise ValueError("LLMBased: the model must be frozen, call its requires_grad_(False) before")


class LLMTwoStage(nn.Module):
    """The tier by a network of its own, the rest by a budget token, as one policy over all settings.

    Args:
        tier_network: Stage 1.
        setting_network: Stage 2.
    """

    def __init__(self, tier_network: TierNetwork, setting_network: LLMBased) -> None:
        super().__init__()
        self.tier_network = tier_network
        self.setting_network = setting_network

    def forward(
        self, budget_ms_B: Tensor, features_BF: Tensor, remaining_ms_BT: Tensor, prompts: TierPrompts
    ) -> Tensor:
        """Return the joint log-probabilities, ``(batch, settings)`` in the order of ``KnobGrid.settings``.

        Args:
            budget_ms_B: ``(batch,)``.
            features_BF: ``(batch, features)`` of stage 1.
            remaining_ms_BT: ``(batch, tiers)`` budget less what has passed when each tier's vision encoding is done.
            prompts: The requests' prompts at every tier.
        """
        state_BTD = self.setting_network.states_at_tiers(prompts, remaining_ms_BT)
        return joint_log_prob(self.tier_network(budget_ms_B, features_BF), self.setting_network.decide(state_BTD))


def remaining_blocks(grid: KnobGrid, num_first_blocks: int) -> tuple[tuple[int, ...], ...]:
    """Return which blocks are left to run behind the first ones, for each number of active blocks in the grid.

    Raises:
        ValueError: If a set of blocks leaves out one of the first.
    """
    first = tuple(range(num_first_blocks))
    for count, blocks in grid.blocks_by_count.items():
        if blocks[:num_first_blocks] != first:
            raise ValueError(f"blocks_by_count[{count}]: must begin with the first {num_first_blocks}, got {blocks}")
    return tuple(blocks[num_first_blocks:] for blocks in grid.blocks_by_count.values())
