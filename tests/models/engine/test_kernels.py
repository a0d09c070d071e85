"""What the kernels become when they are compiled for the GPU that they are written for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import main

ROOT = Path(main.__file__).parent
# Most reads of ``project_and_route`` are of single numbers: shares of the logits.
READS_WEIGHTS = {
    "norm_linear",
    "experts_in",
    "experts_out",
    "add_norm",
    "quick_gelu",
    "gate",
    "combine",
}


@pytest.mark.slow
def test_every_kernel_compiles_for_hopper_without_spilling_and_reads_weights_in_wide_words() -> None:
    # In a process of its own: here the kernels may have been defined for the interpreter.
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(Path.cwd() / "triton")
    command = [sys.executable, "-m", "tests.kernel_resources"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=200)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["kernel"] for row in found} >= READS_WEIGHTS | {"attend", "route", "dispatch", "place_heads"}
    for row in found:
        assert row["stack_bytes"] == 0, row
        if row["kernel"] in READS_WEIGHTS:
            assert row["wide_reads"] >= row["reads"] / 3, row
