"""The ``engine-proof`` command: that an engine is warm in time, right, and stays both over many requests."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import torch
from rich.console import Console

from models.config import MolmoConfig
from models.engine import Engine, EngineName, why_no_graph
from models.knobs import STANDARD_TIERS, KnobSetting, check_top_k, spread_grid
from models.molmo import Molmo
from profiling.bench.proof_parity import ParityPlan, measure_parity
from profiling.bench.proof_report import (
    SCHEMA_VERSION,
    Limits,
    failures,
    parity_content,
    proof_lines,
    proof_markdown,
    soak_content,
    summary_tables,
    switch_content,
    warm_up_content,
)
from profiling.bench.proof_soak import SoakPlan, run_soak
from profiling.bench.proof_warm_up import (
    SwitchPlan,
    WarmUp,
    kernel_cache,
    measure_switches,
    timed_warm_up,
    warm_up_in_fresh_process,
)
from profiling.bench.report import where_lines
from profiling.environment import collect_environment
from profiling.files import write_json, written_whole
from profiling.model_source import ModelSource
from profiling.progress import progress_bar

_PIPED_WIDTH: Final = 120


class ProofError(ValueError):
    """An engine does not keep to the limits; the report is written all the same."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What is proven, at every pair of a top_k and a number of active blocks.

    Args:
        model: The model.
        engine: The engine. Where it cannot run, the eager one is proven, and the report says so.
        top_k: Levels of experts per token; ``[0]`` for a dense model.
        num_active_blocks: Levels of blocks that run, spread evenly.
        capacity: Most tokens of a request that the engine has room for.
        switching: How switching between settings is measured.
        parity: Where logits are compared.
        soak: Which requests run for long.
        limits: What must be kept to.

    Raises:
        ValueError: If there are no two settings to switch between, or a level comes twice.
    """

    model: ModelSource
    engine: EngineName = "graph"
    top_k: tuple[int, ...] = (4, 6, 8, 10, 12)
    num_active_blocks: tuple[int, ...] = (8, 10, 12, 14, 16)
    capacity: int = 4096
    switching: SwitchPlan = field(default_factory=SwitchPlan)
    parity: ParityPlan = field(default_factory=ParityPlan)
    soak: SoakPlan = field(default_factory=SoakPlan)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if len(self.top_k) * len(self.num_active_blocks) < 2:
            raise ValueError("top_k, num_active_blocks: need two settings to switch between, got fewer")

    def settings(self, config: MolmoConfig) -> list[KnobSetting]:
        """Return the settings.

        Raises:
            ValueError: If the model has not that many blocks or experts.
        """
        for top_k in self.top_k:
            check_top_k(top_k, num_experts=config.num_experts)
        grid = spread_grid(
            config.num_blocks, top_k=self.top_k, block_counts=self.num_active_blocks, tiers=STANDARD_TIERS[-1:]
        )
        return grid.settings()

    def check(self, config: MolmoConfig) -> None:
        """Check the proof against a model.

        Raises:
            ValueError: If the model has not the levels asked for, or there is no room for a request.
        """
        self.settings(config)
        vision_tokens = max(self.soak.crops) * config.tokens_per_crop
        longest = {
            "switching.prompt_tokens": self.switching.prompt_tokens + 1,
            "parity.prompt_tokens": max(self.parity.prompt_tokens) + self.parity.steps + 1,
            "soak.text_tokens": vision_tokens + max(self.soak.text_tokens) + self.soak.output_tokens[1],
        }
        room = min(self.capacity, config.max_position_embeddings)
        for name, tokens in longest.items():
            if tokens > room:
                raise ValueError(f"{name}: the longest request has {tokens} tokens, there is room for {room}")


def prove_engine(
    proof: Proof,
    output_dir: Path,
    *,
    device: Literal["cpu", "cuda"] = "cpu",
    num_threads: int | None = None,
) -> None:
    """Prove an engine: warm-up and switching in time, logits as right as transformers', no leak over many requests.

    Warms all settings up, first in a process of its own without any compiled kernels (where the graph engine runs),
    then here with those. Compares logits with a float32 copy of the model, side by side with transformers'. Runs many
    mixed requests, some broken off and some in threads, and asks one again and again. Prints what it found, writes
    ``proof.json`` and ``proof.md``, and fails if something does not keep to the limits.

    Args:
        proof: What to prove.
        output_dir: Folder of the results.
        device: Where to run.
        num_threads: CPU threads; PyTorch's choice if null.

    Raises:
        ValueError: If the model cannot be loaded or has not the levels asked for, or there is no such device.
        ProofError: If something does not keep to the limits.
    """
    console = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    config = _checked(proof, device, num_threads)
    output_dir.mkdir(parents=True, exist_ok=True)
    content = _measure(proof, proof.settings(config), device, console)
    content["failures"] = failures(content, proof.limits)
    write_json(output_dir / "proof.json", content)
    with written_whole(output_dir / "proof.md") as partial_path:
        partial_path.write_text(proof_markdown(content), encoding="utf-8")
    _print(content, console)
    console.print(f"wrote {output_dir / 'proof.json'} and {output_dir / 'proof.md'}")
    if content["failures"]:
        raise ProofError(f"the engine is not proven: {'; '.join(content['failures'])}")


def _checked(proof: Proof, device: str, num_threads: int | None) -> MolmoConfig:
    """Refuse what cannot be proven here, set the number of threads, and return the model's shape."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: this machine has no CUDA device; say cpu, with a config for it")
    if num_threads is not None:
        if num_threads < 1:
            raise ValueError(f"num_threads: must be 1 or more, got {num_threads}")
        torch.set_num_threads(num_threads)
    config = MolmoConfig.from_hf(proof.model.hf_config(), source=proof.model.name)
    proof.check(config)
    return config


def _measure(proof: Proof, settings: Sequence[KnobSetting], device: str, console: Console) -> dict[str, Any]:
    """Measure part by part; return everything but the verdict as plain values."""
    num_steps = 2 + proof.switching.repeats + proof.soak.num_requests + len(settings) * len(proof.parity.prompt_tokens)
    with progress_bar(console, times_steps=True) as progress:
        task = progress.add_task("warm-up", total=num_steps)

        def advance() -> None:
            progress.advance(task)

        model, engine, warm_ups = _warm_up(proof, settings, device, advance)
        progress.update(task, description="switching")
        switches = measure_switches(engine, model, settings, proof.switching, advance)
        progress.update(task, description="soak")
        soak = run_soak(engine, model, settings, proof.soak, advance)
        progress.update(task, description="parity")
        compared = measure_parity(engine, model, settings, proof.parity, advance)
    return {
        "schema_version": SCHEMA_VERSION,
        "environment": _environment(proof, engine, device),
        "why_no_graph": why_no_graph(model),
        "proof": asdict(proof),
        "warm_up": warm_up_content(warm_ups),
        "switching": switch_content(switches),
        "parity": parity_content(compared),
        "soak": soak_content(soak, proof.soak.num_settled),
    }


def _warm_up(
    proof: Proof, settings: Sequence[KnobSetting], device: str, advance: Callable[[], None]
) -> tuple[Molmo, Engine, dict[str, WarmUp]]:
    """Warm up without compiled kernels where there are any, then here; no kernel of ours may have run here before."""
    warm_ups = {}
    with tempfile.TemporaryDirectory() as folder, kernel_cache(Path(folder)):
        if proof.engine == "graph" and device == "cuda":
            warm_ups["empty"] = warm_up_in_fresh_process(
                proof.engine, proof.model, device, settings, capacity=proof.capacity
            )
        advance()
        model = proof.model.load(device)
        name = "filled" if warm_ups else "not needed"
        engine, warm_ups[name] = timed_warm_up(proof.engine, model, settings, capacity=proof.capacity)
        advance()
    return model, engine, warm_ups


def _environment(proof: Proof, engine: Engine, device: str) -> dict[str, Any]:
    source = proof.model
    environment = collect_environment(
        torch.device(device),
        engine=engine.name,
        dtype=source.dtype,
        model=source.name,
        model_shape=source.hf_config(),
        random_weights=source.random_weights,
        router_skew=source.router_skew if source.random_weights else None,
    )
    return environment.model_dump(mode="json")


def _print(content: dict[str, Any], console: Console) -> None:
    for line in where_lines(content["environment"]):
        console.print(line, highlight=False)
    for table in summary_tables(content):
        console.print(table.rich())
    for line in proof_lines(content):
        console.print(line, highlight=False)
