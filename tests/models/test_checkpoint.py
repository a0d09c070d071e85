import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoint import CheckpointError, load_molmo, random_molmo, save_molmo, snapshot_directory
from models.config import MolmoConfig, released_hf_config
from models.experts import MoE
from models.language_model import Block
from models.molmo import Molmo
from models.released import RELEASED
from tests.helpers import GOLDEN, VARIANTS, golden_inputs
from tests.small_models import golden_model

TINY_MIXTURE: dict[str, Any] = {
    **released_hf_config("molmoe-1b-0924"),
    "vision_backbone": {
        **released_hf_config("molmoe-1b-0924")["vision_backbone"],
        "image_default_input_size": [28, 28],
        "image_emb_dim": 16,
        "image_num_heads": 2,
        "image_head_dim": 8,
        "image_mlp_dim": 32,
        "image_num_layers": 9,
    },
    "d_model": 32,
    "n_heads": 2,
    "n_layers": 2,
    "moe_num_experts": 16,
    "moe_top_k": 2,
    "vocab_size": 60,
    "embedding_size": 64,
}


def hf_config_of(variant: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((GOLDEN / variant / "config.json").read_text())
    return content


def copy_of(variant: str, directory: Path) -> Path:
    """Copy a golden snapshot, to be damaged."""
    directory.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(GOLDEN / variant / name, directory / name)
    return directory


def assert_same_weights(first: Molmo, second: Molmo) -> None:
    theirs = second.state_dict()
    assert list(first.state_dict()) == list(theirs)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_saving_gives_back_the_file_that_was_loaded(variant: str, tmp_path: Path) -> None:
    save_molmo(golden_model(variant), tmp_path / "new", hf_config=hf_config_of(variant))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["config.json", "model.safetensors"]
    saved = load_file(tmp_path / "new" / "model.safetensors")
    original = load_file(GOLDEN / variant / "model.safetensors")
    assert saved.keys() == original.keys()
    assert all(torch.equal(saved[key], original[key]) for key in original)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_checkpoint_in_several_files_has_an_index_and_loads_to_the_same_weights(variant: str, tmp_path: Path) -> None:
    model = golden_model(variant)
    save_molmo(model, tmp_path / "new", hf_config=hf_config_of(variant), max_shard_bytes=300_000)
    files = sorted((tmp_path / "new").glob("model-*.safetensors"))
    assert files[0].name == f"model-00001-of-{len(files):05}.safetensors"
    assert len(files) > 2
    assert all(sum(tensor.nbytes for tensor in load_file(file).values()) <= 300_000 for file in files)
    index = json.loads((tmp_path / "new" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(parameter.nbytes for parameter in model.parameters())
    assert set(index["weight_map"].values()) == {file.name for file in files}
    assert_same_weights(load_molmo(str(tmp_path / "new")), model)


def test_a_loaded_model_is_ready_to_answer() -> None:
    model = load_molmo(str(GOLDEN / "moe"))
    assert not any(module.training for module in model.modules())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_weights_are_converted_while_they_are_loaded(tmp_path: Path) -> None:
    half = load_molmo(str(GOLDEN / "dense"), dtype=torch.bfloat16)
    for ours, original in zip(half.parameters(), golden_model("dense").parameters(), strict=True):
        assert torch.equal(ours, original.bfloat16())
    save_molmo(half, tmp_path / "half", hf_config=hf_config_of("dense"))
    again = load_molmo(str(tmp_path / "half"))
    assert {parameter.dtype for parameter in again.parameters()} == {torch.bfloat16}
    assert_same_weights(again, half)


def test_tokenizer_files_are_saved_beside_the_weights(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    save_molmo(
        golden_model("dense"),
        tmp_path / "deep" / "new",
        hf_config=hf_config_of("dense"),
        tokenizer_files=[tmp_path / "tokenizer.json"],
    )
    assert (tmp_path / "deep" / "new" / "tokenizer.json").read_text() == "{}"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["new"]


def test_a_directory_that_exists_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"exists already; choose a new directory"):
        save_molmo(golden_model("dense"), tmp_path, hf_config=hf_config_of("dense"))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_save_that_fails_leaves_no_directory_and_can_be_repeated(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        save_molmo(
            golden_model("dense"),
            tmp_path / "new",
            hf_config=hf_config_of("dense"),
            tokenizer_files=[tmp_path / "absent.json"],
        )
    assert not (tmp_path / "new").exists()
    save_molmo(golden_model("dense"), tmp_path / "new", hf_config=hf_config_of("dense"))
    assert_same_weights(load_molmo(str(tmp_path / "new")), golden_model("dense"))


@pytest.mark.parametrize("change", [{"num_hidden_layers": 5}, {"intermediate_size": 96}, {"rope_theta": 1e4}])
def test_a_config_of_another_shape_is_not_saved(change: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hf_config describes another shape than the model has"):
        save_molmo(golden_model("dense"), tmp_path / "new", hf_config={**hf_config_of("dense"), **change})
    assert not list(tmp_path.iterdir())


def test_all_wrong_tensors_are_listed_in_one_error(tmp_path: Path) -> None:
    snapshot = copy_of("moe", tmp_path / "broken")
    tensors = load_file(snapshot / "model.safetensors")
    del tensors["lm_head.weight"]
    tensors["model.transformer.ln_f.weight"] = torch.ones(65)
    tensors["stranger.weight"] = torch.ones(2)
    save_file(tensors, snapshot / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_molmo(str(snapshot))
    assert str(caught.value) == (
        f"{snapshot}: 3 tensors differ: missing lm_head.weight; unexpected stranger.weight; "
        "model.transformer.ln_f.weight has shape (65,), expected (64,)"
    )


def test_a_long_list_of_wrong_tensors_is_cut(tmp_path: Path) -> None:
    snapshot = copy_of("moe", tmp_path / "broken")
    shutil.copy(GOLDEN / "dense" / "model.safetensors", snapshot / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"\d+ tensors differ: missing .*; and \d+ more$") as caught:
        load_molmo(str(snapshot))
    assert str(caught.value).count("; ") == 20


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    snapshot = copy_of("dense", tmp_path / "broken")
    whole = (snapshot / "model.safetensors").read_bytes()
    for content in (whole[: len(whole) // 2], whole[:4], b""):
        (snapshot / "model.safetensors").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"model.safetensors: not a whole safetensors file"):
            load_molmo(str(snapshot))


def test_a_directory_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config.json: not found; a snapshot directory holds a config.json"):
        load_molmo(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"d_model": ', r"config.json: not JSON: Expecting value"),
        (b"\xff\xfe", r"config.json: not JSON: .*decode"),
        (b"[1]", r"config.json: must hold a JSON object, got a list"),
        (b'{"d_model": 4}', r"config.json: field '\w+' is missing; is this the config.json of a Molmo model\?"),
    ],
)
def test_a_broken_config_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_molmo(str(tmp_path))


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    snapshot = copy_of("dense", tmp_path / "broken")
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"holds neither model.safetensors nor model.safetensors.index.json"):
        load_molmo(str(snapshot))


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    save_molmo(golden_model("dense"), tmp_path / "sharded", hf_config=hf_config_of("dense"), max_shard_bytes=500_000)
    return tmp_path / "sharded"


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"names files that are not there: model-00002-of-00003.safetensors"):
        load_molmo(str(sharded))


def test_a_tensor_that_is_not_in_the_file_that_the_index_says_is_named(sharded: Path) -> None:
    index_file = sharded / "model.safetensors.index.json"
    index = json.loads(index_file.read_text())
    index["weight_map"]["model.transformer.ln_f.weight"] = "model-00003-of-00003.safetensors"
    index_file.write_text(json.dumps(index))
    message = r"1 tensors differ: missing model.transformer.ln_f.weight \(the index says model-00003-of-00003"
    with pytest.raises(CheckpointError, match=message):
        load_molmo(str(sharded))


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", r"index.json: not JSON"), ("{}", r"index.json: must say in weight_map which file holds which tensor")],
)
def test_a_broken_index_is_refused(content: str, message: str, sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load_molmo(str(sharded))


def test_a_hub_id_that_is_not_on_this_machine_says_how_to_fetch_it() -> None:
    with pytest.raises(CheckpointError, match=r"fetch it with `hf download nobody/never-was --local-dir DIR` and give"):
        load_molmo("nobody/never-was")


def test_a_path_that_is_not_there_is_no_hub_id() -> None:
    with pytest.raises(CheckpointError, match=r"'/not/there' is neither a directory nor a hub id$"):
        load_molmo("/not/there")


def test_a_hub_id_in_the_local_cache_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    revision = "0" * 40
    repository = tmp_path / "models--some--molmo"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    (repository / "snapshots").mkdir()
    copy_of("dense", repository / "snapshots" / revision)
    assert snapshot_directory("some/molmo") == repository / "snapshots" / revision
    assert_same_weights(load_molmo("some/molmo"), golden_model("dense"))


PEAK_SCRIPT = """
import resource, sys
import torch
from models.checkpoint import load_molmo

def anonymous_bytes():
    # Pages of the mapped files are shared with the page cache and can be dropped at any time: they do not count.
    resident, shared = open("/proc/self/statm").read().split()[1:3]
    return (int(resident) - int(shared)) * resource.getpagesize()

def watch(frame, event, arg):
    global peak
    peak = max(peak, anonymous_bytes())

load_molmo(sys.argv[1])  # what is allocated only once
before = peak = anonymous_bytes()
sys.setprofile(watch)
model = load_molmo(sys.argv[2])
sys.setprofile(None)
print((peak - before) / sum(parameter.nbytes for parameter in model.parameters()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_holds_no_second_copy_of_the_weights(tmp_path: Path) -> None:
    wide = {**TINY_MIXTURE, "d_model": 512, "mlp_ratio": 4, "moe_num_experts": 16}
    with torch.device("meta"):
        model = Molmo(MolmoConfig.from_hf(wide)).to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    num_bytes = sum(parameter.nbytes for parameter in model.parameters())
    assert num_bytes > 200e6
    save_molmo(model, tmp_path / "wide", hf_config=wide, max_shard_bytes=60_000_000)
    del model
    result = subprocess.run(
        [sys.executable, "-c", PEAK_SCRIPT, str(GOLDEN / "dense"), str(tmp_path / "wide")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0.95 < float(result.stdout) < 1.1


def test_a_random_model_repeats_with_its_seed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY_MIXTURE))
    first, same, other = (random_molmo(str(tmp_path), seed=seed) for seed in (1, 1, 2))
    assert_same_weights(first, same)
    assert not torch.equal(first.language_model.head.weight, other.language_model.head.weight)


def test_a_random_model_is_of_the_asked_type_and_answers_with_numbers() -> None:
    model = random_molmo(str(GOLDEN / "moe"), dtype=torch.bfloat16)
    with torch.inference_mode():
        logits = model(golden_inputs("moe", "img_tiny"))
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all()
    assert 0.01 < logits.float().std() < 10


def test_a_released_shape_needs_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RELEASED, "tiny-0924", TINY_MIXTURE)
    assert random_molmo("tiny-0924").config == MolmoConfig.from_hf(TINY_MIXTURE)


def test_neither_a_released_name_nor_a_directory_is_refused_with_the_choices(tmp_path: Path) -> None:
    message = r"neither a directory with a config.json nor a released model \(molmoe-1b-0924, molmo-7b-d-0924"
    with pytest.raises(ValueError, match=message):
        random_molmo(str(tmp_path))


def share_of_busiest_experts(model: Molmo) -> float:
    """Return what part of all visits the two busiest of sixteen experts get, in the first block."""
    block = model.language_model.blocks[0]
    assert isinstance(block, Block)
    assert isinstance(block.ffn, MoE)
    with torch.inference_mode():
        _, chosen = block.ffn.router(torch.randn(4000, 32), 2)
    visits = chosen.flatten().bincount(minlength=16).sort(descending=True).values
    return float(visits[:2].sum() / visits.sum())


def test_a_skewed_router_prefers_some_experts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY_MIXTURE))
    shares = [share_of_busiest_experts(random_molmo(str(tmp_path), router_skew=skew)) for skew in (0.0, 0.5, 2.0)]
    assert shares[0] < 0.2  # even would be 2 of 16 = 0.125
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.3
