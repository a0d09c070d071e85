from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from models.checkpoint import load_molmo
from models.generation import generate
from models.inputs import collate
from models.knobs import Tier
from models.molmo import Molmo
from models.processor import MolmoProcessor, format_question
from models.tokenizer import load_tokenizer
from profiling.datasets.sample import Sample
from profiling.importance.scores import BlockScore, importance_jobs, part_scores
from profiling.model_source import ModelSource
from profiling.subsets.data import EvaluationData, reference_answer, samples_digest
from profiling.subsets.job import Job, Measure, Part, check_pinned
from profiling.subsets.measures import Subject, quantity_shapes, spans
from profiling.subsets.model_evaluator import EvaluatedModel, ModelEvaluator
from profiling.subsets.prepared import MemoryBudget, Preparation, PreparedSamples
from profiling.suite.suite import suite_samples
from tests.block_models import write_block_model

TIER = Tier(name="one", min_crops=1, max_crops=1)
DATA = EvaluationData(dataset_names=("suite_scenes", "suite_counting"), names_style=False)
FULL = (0, 1, 2, 3)
WORKING = 2


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_block_model(tmp_path_factory.mktemp("models") / "planted", 4, working=WORKING)


def asked(snapshot: Path, **changes: Any) -> EvaluatedModel:
    model = ModelSource(name=str(snapshot), dtype="float32")
    fields: dict[str, Any] = {"model": model, "data": DATA, "tier": TIER, "batch_size": 3}
    return EvaluatedModel(**{**fields, **changes})


def subject(snapshot: Path) -> Subject:
    model = load_molmo(str(snapshot))
    tokenizer, special_tokens = load_tokenizer(snapshot)
    return Subject(
        model=model, processor=MolmoProcessor(model.config, special_tokens, tokenizer), setting=model.full_setting
    )


def samples() -> dict[str, list[Sample]]:
    return {name: suite_samples([name.removeprefix("suite_")], "val", num_samples=4) for name in DATA.dataset_names}


def read(answers: dict[str, str] | None = None) -> Any:
    """Give samples, whose right answers may be replaced."""

    def read_samples(_part: Part, num_samples: int) -> dict[str, list[Sample]]:
        found = {name: members[:num_samples] for name, members in samples().items()}
        if answers is None:
            return found
        return {
            name: [replace(sample, answers=(answers[sample.sample_id],)) for sample in members]
            for name, members in found.items()
        }

    return read_samples


def job(measure: Measure, blocks: tuple[int, ...] = FULL) -> Job:
    return Job(blocks=blocks, measure=measure, part="validation", num_samples=4)


def own_answers(of: Subject, blocks: tuple[int, ...] = FULL) -> dict[str, str]:
    """What the model answers, asked one by one by the project's own generation."""
    found = {}
    setting = replace(of.setting, active_blocks=blocks)
    for members in samples().values():
        for sample in members:
            inputs = of.processor(DATA.question(sample), sample.image.open(), tier=TIER)
            eos = (of.processor.special_tokens.eos_id,)
            generation = generate(of.model, inputs, setting=setting, max_new_tokens=12, stop_token_ids=eos)
            found[sample.sample_id] = of.processor.decode(generation.token_ids[0].tolist())
    return found


def test_accuracy_is_that_of_the_answers_generated_one_by_one(snapshot: Path) -> None:
    the_subject = subject(snapshot)
    right = own_answers(the_subject)
    evaluator = ModelEvaluator(the_subject, asked(snapshot), read_samples=read(right))
    found = evaluator.evaluate(job(Measure.ANSWERS))
    counting = [sample.sample_id for sample in samples()["suite_counting"]]
    assert found.values["suite_scenes"]["accuracy"].tolist() == [1.0] * 4
    assert found.values["suite_counting"]["accuracy"].tolist() == [float(bool(right[each])) for each in counting]
    other = own_answers(the_subject, (0, 1))
    expected = [float(other[s.sample_id] == right[s.sample_id]) for s in samples()["suite_scenes"]]
    assert evaluator.evaluate(job(Measure.ANSWERS, (0, 1))).values["suite_scenes"]["accuracy"].tolist() == expected
    assert found.cost.forward_passes >= 4
    assert found.cost.seconds > 0


def test_likelihood_is_that_of_whole_logits(snapshot: Path) -> None:
    the_subject = subject(snapshot)
    evaluator = ModelEvaluator(the_subject, asked(snapshot), read_samples=read())
    found = evaluator.evaluate(job(Measure.LIKELIHOOD, (0, 1))).values["suite_scenes"]
    for place, sample in enumerate(samples()["suite_scenes"]):
        example = the_subject.processor.training_example(
            [(sample.question, sample.answers[0])], sample.image.open(), tier=TIER
        )
        is_answer = example.loss_mask[0] > 0
        with torch.no_grad():
            log_probs = [
                the_subject.model(example.inputs, setting=replace(the_subject.setting, active_blocks=blocks))[
                    0
                ].log_softmax(-1)[is_answer]
                for blocks in (FULL, (0, 1))
            ]
        nll = F.nll_loss(log_probs[1], example.labels[0][is_answer])
        kl = F.kl_div(log_probs[1], log_probs[0], log_target=True, reduction="batchmean")
        assert found["nll"][place] == pytest.approx(float(nll), rel=1e-4)
        assert found["kl"][place] == pytest.approx(float(kl), rel=1e-3)
    assert float(evaluator.evaluate(job(Measure.LIKELIHOOD)).values["suite_scenes"]["kl"].max()) < 1e-6


def test_every_score_finds_the_block_that_does_the_work(snapshot: Path) -> None:
    the_subject = subject(snapshot)
    evaluator = ModelEvaluator(the_subject, asked(snapshot), read_samples=read(own_answers(the_subject)))
    jobs = importance_jobs("validation", num_blocks=4, num_samples=4)
    found = part_scores(jobs, [evaluator.evaluate(each) for each in jobs], label="tiny", num_blocks=4, seed=0)
    for score in set(BlockScore) - {BlockScore.RANDOM}:
        means = found.values["suite_scenes"][score].mean(axis=0)
        assert means.argmax() == WORKING, score
        assert means[WORKING] > 5 * sorted(means)[-2], score
    assert found.costs[BlockScore.KL].forward_passes == 5 * 4
    assert found.costs[BlockScore.TAYLOR].backward_passes == 4
    assert found.span_angles["suite_scenes"].shape == (4, 7)


def test_taylor_is_gradient_times_weight_of_the_mean_loss_of_a_few_samples(snapshot: Path) -> None:
    the_subject = subject(snapshot)
    evaluator = ModelEvaluator(the_subject, asked(snapshot, batch_size=4), read_samples=read())
    found = evaluator.evaluate(job(Measure.GRADIENTS)).values["suite_scenes"]["taylor"]
    losses = []
    for sample in samples()["suite_scenes"]:
        example = the_subject.processor.training_example(
            [(sample.question, sample.answers[0])], sample.image.open(), tier=TIER
        )
        is_answer = example.loss_mask[0] > 0
        logits = the_subject.model(example.inputs, setting=the_subject.setting)[0]
        losses.append(F.cross_entropy(logits[is_answer], example.labels[0][is_answer]))
    blocks = [the_subject.model.language_model.blocks[index] for index in FULL]
    weights_by_block = [list(block.parameters()) for block in blocks]
    loss = torch.stack(losses).mean()
    found_by_block = [torch.autograd.grad(loss, weights, retain_graph=True) for weights in weights_by_block]
    expected = [
        sum(float((gradient * weight.detach()).abs().sum()) for gradient, weight in zip(of_block, weights, strict=True))
        for of_block, weights in zip(found_by_block, weights_by_block, strict=True)
    ]
    assert found.shape == (1, len(FULL))
    assert found[0].tolist() == pytest.approx(expected, rel=1e-3)


def test_taylor_is_of_the_same_eight_samples_whatever_the_batches(snapshot: Path) -> None:
    the_subject = subject(snapshot)
    members = {"suite_scenes": suite_samples(["scenes"], "val", num_samples=10)}
    jobs = replace(job(Measure.GRADIENTS), num_samples=10)
    found = [
        ModelEvaluator(the_subject, asked(snapshot, batch_size=size), read_samples=lambda *_: members).evaluate(jobs)
        for size in (10, 3)
    ]
    together, apart = (each.values["suite_scenes"]["taylor"] for each in found)
    assert together.shape == apart.shape == quantity_shapes(jobs)["taylor"] == (2, len(FULL))
    assert apart == pytest.approx(together, rel=1e-3)
    assert [each.cost.backward_passes for each in found] == [2, 3 + 2]


def test_outcomes_have_the_shapes_that_files_are_checked_for(snapshot: Path) -> None:
    evaluator = ModelEvaluator(subject(snapshot), asked(snapshot), read_samples=read())
    for measure in Measure:
        asked_for = job(measure, (0, 2, 3))
        for values in evaluator.evaluate(asked_for).values.values():
            assert {quantity: value.shape for quantity, value in values.items()} == quantity_shapes(asked_for)


def test_hidden_states_leave_no_hook_behind_and_padding_counts_for_nothing(snapshot: Path) -> None:
    the_subject = subject(snapshot)
    found = [
        ModelEvaluator(the_subject, asked(snapshot, batch_size=size), read_samples=read()).evaluate(
            job(Measure.HIDDEN_STATES)
        )
        for size in (1, 4)
    ]
    for quantity in ("block_influence", "angular_distance", "angular_spans"):
        alone, together = (each.values["suite_counting"][quantity] for each in found)
        assert abs(alone - together).max() < 1e-3
    assert not any(block._forward_hooks for block in the_subject.model.language_model.blocks)


def test_spans_are_single_blocks_first() -> None:
    assert spans(4) == [(0, 1), (1, 2), (2, 3), (3, 4), (0, 2), (1, 3), (2, 4)]
    assert spans(1) == [(0, 1)]


def test_batches_that_fit_are_kept_and_others_made_again(snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    the_subject = subject(snapshot)
    preparation = Preparation(
        model=the_subject.model,
        processor=the_subject.processor,
        data=DATA,
        setting=the_subject.setting,
        tier=TIER,
        tiling="target",
    )
    members = samples()["suite_scenes"]
    first = preparation.batch(members[:2])
    made: list[int] = []
    monkeypatch.setattr(Molmo, "encode_images", _counting(Molmo.encode_images, made))
    batches = PreparedSamples(members, preparation, batch_size=2, budget=MemoryBudget(first.num_bytes))
    for _ in range(3):
        assert [len(batch.samples) for batch in batches] == [2, 2]
    assert len(made) == 1 + 3


def _counting(method: Any, calls: list[int]) -> Any:
    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        return method(*arguments, **options)

    return counted


def test_a_prompt_ends_where_its_answer_begins(snapshot: Path) -> None:
    the_subject = subject(snapshot)
    members = samples()["suite_counting"]
    examples = [the_subject.processor(DATA.question(sample), sample.image.open(), tier=TIER) for sample in members]
    preparation = Preparation(
        model=the_subject.model,
        processor=the_subject.processor,
        data=DATA,
        setting=the_subject.setting,
        tier=TIER,
        tiling="target",
    )
    inputs, x = preparation.batch(members).prompt
    assert torch.equal(inputs.input_ids, collate(examples).input_ids)
    assert x.shape[:2] == inputs.input_ids.shape


def test_blocks_that_the_model_has_not_are_an_error(snapshot: Path) -> None:
    evaluator = ModelEvaluator(subject(snapshot), asked(snapshot), read_samples=read())
    with pytest.raises(ValueError, match="active_blocks: the model has blocks 0 to 3, got 4"):
        evaluator.evaluate(job(Measure.ANSWERS, (0, 4)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size: must be 1 or more, got 0"),
        ({"cache_gib": -1.0}, "cache_gib: must be 0 or more"),
    ],
)
def test_numbers_out_of_range_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        asked(Path("nowhere"), **changes)


def test_a_label_says_when_answers_mean_nothing() -> None:
    model = ModelSource(name="shape", random_weights=True, dtype="float32")
    assert asked(Path(), model=model).label == "shape, random weights (answers mean nothing), float32, tier one"


def test_top_k_is_checked_before_weights_are_read(snapshot: Path) -> None:
    assert asked(snapshot, top_k=2).evaluator("cpu")._subject.setting.top_k == 2
    with pytest.raises(ValueError, match=r"top_k: must be 1 to 2"):
        asked(snapshot, top_k=3).config()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset_names": ()}, "dataset_names: needs at least one dataset"),
        ({"dataset_names": ("suite_chess",)}, "dataset_names: expected some of .*, found 'suite_chess'"),
        ({"dataset_names": ("suite_facts", "suite_facts")}, "'suite_facts' is named twice"),
        ({"dataset_names": ("suite_facts",), "train_splits": {"okvqa": "train"}}, "train_splits: .* got 'okvqa'"),
    ],
)
def test_datasets_that_there_are_not_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationData(**changes)


def test_fewer_samples_than_asked_are_an_error() -> None:
    Path("few.jsonl").write_text(3 * '{"image": "a.png", "question": "q", "answers": ["a"]}\n')
    data = EvaluationData(dataset_names=("few.jsonl",))
    with pytest.raises(ValueError, match=r"few\.jsonl.*num_samples: expected 1 to 3, as many as there are, found 4"):
        data.samples("validation", 4)
    with pytest.raises(ValueError, match="split: expected one of"):
        data.samples("train", 2)


def test_parts_of_a_dataset_differ() -> None:
    DATA.check_parts_differ()
    data = replace(DATA, train_splits={"suite_counting": "val"})
    with pytest.raises(ValueError, match="suite_counting: its train and validation parts are both the split 'val'"):
        data.check_parts_differ()
    assert samples_digest(data.samples("train", 2)) != samples_digest(DATA.samples("train", 2))


@pytest.mark.parametrize(
    "changes",
    [
        {"sample_id": "other"},
        {"question": "Which?"},
        {"answers": ("other",)},
        {"options": ("red", "blue")},
        {"question_has_options": True},
    ],
)
def test_samples_of_one_name_that_ask_or_answer_otherwise_have_another_digest(changes: dict[str, Any]) -> None:
    members = samples()["suite_scenes"]
    other = [replace(members[0], **changes), *members[1:]]
    assert samples_digest({"suite_scenes": other}) != samples_digest({"suite_scenes": members})
    assert samples_digest({"suite_scenes": list(members)}) == samples_digest({"suite_scenes": members})


def test_a_question_names_its_style_where_wanted_and_its_reference_is_the_commonest_answer() -> None:
    sample = replace(samples()["suite_scenes"][0], answers=("red", "blue", "blue"))
    assert DATA.question(sample) == sample.question
    assert replace(DATA, names_style=True).question(sample) == f"vqa2: {sample.question}"
    assert format_question(f"vqa2: {sample.question}") == format_question(sample.question, style="vqa2")
    assert reference_answer(sample) == "blue"
    lettered = replace(sample, options=("red", "blue"), question_has_options=False)
    assert reference_answer(lettered) == "B"
    assert reference_answer(replace(lettered, question_has_options=True)) == "blue"


@pytest.mark.parametrize(("pinned", "message"), [((4,), "0 to 3, got 4"), ((1, 1), "names a block twice")])
def test_pinned_blocks_are_checked(pinned: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"pinned: .*{message}"):
        check_pinned(pinned, 4)
