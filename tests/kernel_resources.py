"""Compile every kernel of the engine for Hopper at MolmoE-1B's shape and print what it takes; needs no GPU.

``python -m tests.kernel_resources`` prints a line of JSON for each kernel: registers a thread, bytes of stack (where
spilled registers go), reads of global memory, and how many of them are 16 bytes wide.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

import triton
from triton.backends import nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from models.config import released_config
from models.engine.kernels import attention, experts, greedy, linear, prefill, vision
from models.engine.tiles import Cut, Tiles
from models.knobs import MOLMOE_1B_GRID

HOPPER: Final = GPUTarget("cuda", 90, 32)
CUOBJDUMP: Final = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
# Types of the arguments that are not known when compiling; activations of the decode kernels are float32.
WEIGHT, ACTIVATION, COUNT, ID = "*bf16", "*fp32", "*i32", "*i64"
NUMBERS: Final = {"eps": "fp32", "C": "i32"}


def cases() -> list[tuple[Any, dict[str, str], dict[str, int]]]:
    """List the kernels with the types of their pointers and their constants."""
    config, tiles = released_config("molmoe-1b-0924"), Tiles()
    width = {"D": config.hidden_dim, "D_P": config.hidden_dim}
    ranks = {"E": config.num_experts, "E_P": config.num_experts, "K": config.top_k, "MASS_K": 0}
    ranks_by_kind = {"TEXT_K": config.top_k, "VISION_K": config.top_k - 1, **ranks}
    heads = {"H": config.num_heads, "HALF": config.head_dim // 2, "HALF_P": config.head_dim // 2}
    ffn, vocabulary = config.ffn_dim, config.embedding_size
    parts = triton.cdiv(vocabulary, tiles.vocabulary_part)
    norm_linear = {"x": ACTIVATION, "norm": WEIGHT, "weight": WEIGHT, "out": ACTIVATION}
    mixture = dict.fromkeys(("x", "hidden", "partial", "chosen_weight"), ACTIVATION) | {
        "chosen": COUNT,
        "arrived": COUNT,
    }
    attended = dict.fromkeys(("qkv", "cosines", "sines", "partial", "out"), ACTIVATION)
    norms = {"query_norm": WEIGHT, "key_norm": WEIGHT, "cache": WEIGHT}
    integers = ("num_tokens", "is_vision", "expert", "place", "row_of", "counts", "ends")
    chosen = dict.fromkeys(integers, COUNT) | {"weight": ACTIVATION}
    return [
        (linear.embed, {"token": ID, "table": WEIGHT, "x": ACTIVATION}, width),
        *(
            (linear.norm_linear, norm_linear, {"N": num_rows, **launched(cut), **width})
            for num_rows, cut in (
                (3 * config.hidden_dim, tiles.qkv),
                (vocabulary, tiles.head),
            )
        ),
        (
            attention.attend,
            {**attended, **norms, "position": COUNT, "arrived": COUNT},
            {**heads, "S": tiles.context_splits, "TOKENS": tiles.context_tokens, **width},
        ),
        (
            experts.project_and_route,
            {**mixture, "attended": ACTIVATION, "weight": WEIGHT, "norm": WEIGHT, "router": WEIGHT},
            {
                "PROGRAMS": config.hidden_dim // tiles.out.rows,
                "AT_ONCE": tiles.shares_at_once,
                **launched(tiles.out),
                **ranks,
                **width,
            },
        ),
        (
            experts.experts_in,
            {**mixture, "norm": WEIGHT, "gate_up": WEIGHT},
            {"F": ffn, **launched(tiles.expert_in), **width},
        ),
        *(
            (
                experts.experts_out,
                {**mixture, "down": WEIGHT},
                {
                    **ranks,
                    "K": top_k,
                    "D": config.hidden_dim,
                    "F": ffn,
                    "F_P": ffn,
                    "AHEAD": tiles.experts_ahead,
                    **launched(tiles.expert_out),
                },
            )
            for top_k in MOLMOE_1B_GRID.top_k
        ),
        (
            greedy.largest_of_part,
            {"logits": ACTIVATION, "high": ACTIVATION, "index": COUNT},
            {"V": vocabulary, "PART": tiles.vocabulary_part},
        ),
        (
            greedy.advance,
            {"high": ACTIVATION, "index": COUNT, "token": ID, "position": COUNT},
            {"PARTS": parts, "PARTS_P": triton.next_power_of_2(parts), "V": vocabulary},
        ),
        (
            prefill.place_heads,
            {**attended, **norms, "qkv": WEIGHT, "query": WEIGHT, "num_tokens": COUNT},
            {**heads, "H_P": config.num_heads, **width},
        ),
        (prefill.route, {**chosen, "logits": WEIGHT}, {"TOKENS": 8, **ranks_by_kind}),
        (prefill.dispatch, {**chosen, "y": WEIGHT, "rows": WEIGHT}, {**ranks, **width}),
        (prefill.gate, {**chosen, "gate_up": WEIGHT, "hidden": WEIGHT}, {"F": ffn, "F_P": ffn, **ranks}),
        (
            prefill.combine,
            {**chosen, "rows": WEIGHT, "x": WEIGHT},
            {**ranks, **width},
        ),
        (
            vision.add_norm,
            dict.fromkeys(("x", "change", "bias", "norm", "norm_bias", "y"), WEIGHT),
            {"W": config.vision.hidden_dim, "W_P": config.vision.hidden_dim},
        ),
        (
            vision.quick_gelu,
            {"hidden": WEIGHT, "bias": WEIGHT},
            {"F": config.vision.mlp_dim, "F_P": config.vision.mlp_dim},
        ),
    ]


def launched(cut: Cut) -> dict[str, int]:
    """Constants of a kernel that is launched so."""
    return {"ROWS": cut.rows, "num_warps": cut.warps}


def resources(kernel: Any, types: dict[str, str], constants: dict[str, int]) -> dict[str, Any]:
    """Compile a kernel as it is launched: pointers aligned to 16 bytes, starting early."""
    names = kernel.arg_names
    known = {name: value for name, value in {"PDL": 1, **constants}.items() if name in names}
    signature = {name: "constexpr" if name in known else {**types, **NUMBERS}[name] for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*")}
    source = ASTSource(fn=kernel, signature=signature, constexprs=known, attrs=aligned)
    compiled = triton.compile(source, target=HOPPER, options={"num_warps": constants.get("num_warps", 4)})
    reads = re.findall(r"ld\.global\S*", compiled.asm["ptx"])
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True)
    registers, stack_bytes = map(int, re.findall(r"REG:(\d+) STACK:(\d+)", usage.stdout)[0])
    return {
        "kernel": kernel.__name__,
        "registers": registers,
        "stack_bytes": stack_bytes,
        "reads": len(reads),
        "wide_reads": sum("v4.b32" in read or "v2.b64" in read for read in reads),
    }


if __name__ == "__main__":
    for case in cases():
        print(json.dumps(resources(*case)))  # noqa: T201 (a command of the developers')
