"""What a proof measures of the answers: how far logits are from a float32 reference of the same weights."""

# Shape suffixes: S = ids of the prompt, N = tokens run behind it, R = N + 1 rows of logits, V = vocabulary.

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from models.engine import EagerEngine, Engine
from models.generation import generate
from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.molmo import Molmo
from profiling.bench.contestants import device_of, draw_prompt
from profiling.bench.stock import stock_language_model, why_not_olmoe

STOCK: Final = "stock_eager"
# Returns the logits behind a prompt and behind each of the tokens after it.
Run = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class ParityPlan:
    """Where answers are compared.

    Args:
        prompt_tokens: Lengths of the prompts.
        steps: Decode steps behind each prompt, along the reference's greedy tokens.

    Raises:
        ValueError: If there is nothing to compare.
    """

    prompt_tokens: tuple[int, ...] = (20, 200, 700)
    steps: int = 4

    def __post_init__(self) -> None:
        if not self.prompt_tokens or min(self.prompt_tokens) < 1:
            raise ValueError(f"parity.prompt_tokens: needs lengths of at least 1, got {list(self.prompt_tokens)}")
        if self.steps < 1:
            raise ValueError(f"parity.steps: must be 1 or more, got {self.steps}")


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far one contestant is from the reference at one setting.

    Args:
        prefill_errors: For each prompt: norm of the logits' difference over the norm of the reference's logits.
        decode_errors: Likewise, for each step behind each prompt.
        num_agreeing: Greedy tokens that are the reference's, of all prompts and steps.
        num_tokens: How many there are.
    """

    prefill_errors: tuple[float, ...]
    decode_errors: tuple[float, ...]
    num_agreeing: int
    num_tokens: int


def measure_parity(
    engine: Engine, model: Molmo, settings: Sequence[KnobSetting], plan: ParityPlan, advance: Callable[[], None]
) -> dict[KnobSetting, dict[str, Deviation]]:
    """Compare the engine, our modules and transformers' with our modules in float32, which run on the same weights.

    Prompts are words without images. transformers is left out where it has no such model.
    """
    reference = deepcopy(model).float()
    compared = {}
    for setting in settings:
        runs = _contestants(engine, model, setting)
        compared[setting] = _deviations(runs, reference, setting, plan, advance)
    return compared


def _contestants(engine: Engine, model: Molmo, setting: KnobSetting) -> dict[str, Run]:
    engines = {f"ours_{each.name}": each for each in (EagerEngine(model), engine)}
    runs: dict[str, Run] = {name: partial(_run_ours, each, model, setting) for name, each in engines.items()}
    if why_not_olmoe(model.config) is None:
        runs[STOCK] = partial(_run_stock, stock_language_model(model, setting, experts="eager"))
    return runs


def _deviations(
    runs: Mapping[str, Run], reference: Molmo, setting: KnobSetting, plan: ParityPlan, advance: Callable[[], None]
) -> dict[str, Deviation]:
    errors: dict[str, list[Tensor]] = {name: [] for name in runs}
    num_agreeing = dict.fromkeys(runs, 0)
    for length in plan.prompt_tokens:
        prompt_1S = draw_prompt(reference.config, length, device_of(reference))
        inputs = ModelInputs(input_ids=prompt_1S)
        greedy = generate(reference, inputs, setting=setting, max_new_tokens=plan.steps + 1, keep_logits=True)
        assert greedy.logits is not None
        expected_RV, token_R = greedy.logits[0], greedy.token_ids[0]
        for name, run in runs.items():
            logits_RV = run(prompt_1S, token_R[:-1])
            errors[name].append(((logits_RV - expected_RV).norm(dim=-1) / expected_RV.norm(dim=-1)).cpu())
            num_agreeing[name] += int((logits_RV.argmax(dim=-1) == token_R).sum())
        advance()
    return {
        name: Deviation(
            prefill_errors=tuple(float(error_R[0]) for error_R in errors[name]),
            decode_errors=tuple(float(error) for error_R in errors[name] for error in error_R[1:]),
            num_agreeing=num_agreeing[name],
            num_tokens=len(plan.prompt_tokens) * (plan.steps + 1),
        )
        for name in runs
    }


@torch.inference_mode()
def _run_ours(engine: Engine, model: Molmo, setting: KnobSetting, prompt_1S: Tensor, token_N: Tensor) -> Tensor:
    inputs = ModelInputs(input_ids=prompt_1S)
    capacity = prompt_1S.shape[1] + len(token_N)
    with engine.request(setting, batch_size=1, capacity=capacity) as request:
        request.prefill(inputs, model.embed(inputs, None))
        rows = [request.logits[0].clone()]  # the next step may overwrite it
        for token in token_N:
            request.step(token[None])
            rows.append(request.logits[0].clone())
    return torch.stack(rows).float()


@torch.inference_mode()
def _run_stock(model: Any, prompt_1S: Tensor, token_N: Tensor) -> Tensor:
    outputs = model(input_ids=prompt_1S, use_cache=True, logits_to_keep=1)
    rows = [outputs.logits[0, -1]]
    for token in token_N:
        outputs = model(input_ids=token.view(1, 1), past_key_values=outputs.past_key_values)
        rows.append(outputs.logits[0, -1])
    return torch.stack(rows).float()
