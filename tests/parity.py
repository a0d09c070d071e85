"""Print how far our outputs are from the reference implementation's: ``python -m tests.parity``."""

import sys
from collections.abc import Iterator

import torch
from torch import Tensor

from models.generation import generate
from models.inputs import collate
from tests.helpers import IMAGE_CASES, VARIANTS, golden_case, golden_inputs
from tests.small_models import golden_model, setting_of

ROW = "| {:<6} | {:<36} | {:>24} | {:>16} |\n"


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs.view_as(ours)).abs().max())


def prompts(variant: str) -> Iterator[tuple[str, float, str]]:
    model = golden_model(variant)
    for case in (*IMAGE_CASES, "text_only", "placeholder"):
        tensors = golden_case(variant, case).tensors
        with torch.inference_mode():
            difference = largest_difference(model(golden_inputs(variant, case)), tensors["logits"])
        yield f"{case}: every position", difference, ""


def generations(variant: str) -> Iterator[tuple[str, float, str]]:
    rows = golden_case(variant, "batch").meta["rows"]
    inputs = {case: golden_inputs(variant, case) for case in (*IMAGE_CASES, "text_only")}
    inputs["batch"] = collate([inputs[row] for row in rows])
    for case, request in inputs.items():
        tensors = golden_case(variant, case).tensors
        ours = generate(golden_model(variant), request, max_new_tokens=12, keep_logits=True)
        assert ours.logits is not None
        same = int((ours.token_ids == tensors["generated_ids"]).sum())
        difference = largest_difference(ours.logits, tensors["generated_step_logits"])
        yield f"{case}: every greedy step", difference, f"{same} of {ours.token_ids.numel()}"


def knobs(variant: str) -> Iterator[tuple[str, float, str]]:
    golden = golden_case(variant, "knobs")
    model = golden_model(variant)
    for described in golden.meta["settings"]:
        if "max_crops" in described:  # other pictures than the recorded ones; the tests cut them
            continue
        tag = described["tag"]
        mask = described.get("block_mask", [1, 1, 1, 1])
        blocks = tuple(index for index, runs in enumerate(mask) if runs)
        setting = setting_of(model, top_k=described.get("top_k"), blocks=blocks)
        inputs = golden_inputs(variant, golden.meta["inputs_of"])
        ours = generate(model, inputs, setting=setting, max_new_tokens=6, keep_logits=True)
        assert ours.logits is not None
        same = int((ours.token_ids == golden.tensors[f"{tag}.generated_ids"]).sum())
        difference = largest_difference(ours.logits[:, 0], golden.tensors[f"{tag}.last_logits"])
        yield f"knobs {tag}: first step", difference, f"{same} of {ours.token_ids.numel()}"


def main() -> None:
    torch.set_num_threads(1)
    sys.stdout.write(ROW.format("model", "case", "largest logit difference", "tokens identical"))
    sys.stdout.write(ROW.format("---", "---", "---:", "---:"))
    for variant in VARIANTS:
        compared = [row for rows in (prompts, generations, knobs) for row in rows(variant)]
        for case, difference, tokens in compared:
            sys.stdout.write(ROW.format(variant, case, f"{difference:.1e}", tokens))
        largest = max(difference for _, difference, _ in compared)
        sys.stdout.write(ROW.format(variant, "largest of all", f"{largest:.1e}", ""))


if __name__ == "__main__":
    main()
