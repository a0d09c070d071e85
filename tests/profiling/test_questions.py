import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profiling.questions import Questions
from tests.dataset_files import write_easy_vqa, write_text_vqa

SCENES = {"suite_scenes": {"train": "val", "calibration": "calibration", "test": "test"}}
SHARED = {"easy_vqa": {"train": "test", "calibration": "test", "test": "test"}}
NUMBERS = {"train": 3, "calibration": 2, "test": 2}


def questions(datasets: dict[str, Any], **changes: Any) -> Questions:
    return Questions(**{"datasets": datasets, "num_samples": NUMBERS, "root": ".", **changes})


def test_each_part_draws_from_the_split_that_it_names() -> None:
    requests = questions(SCENES).requests()
    assert [(request.split, request.sample_id) for request in requests] == [
        ("train", "scenes/val/0/0"),
        ("train", "scenes/val/0/1"),
        ("train", "scenes/val/0/2"),
        ("calibration", "scenes/calibration/0/0"),
        ("calibration", "scenes/calibration/0/1"),
        ("test", "scenes/test/0/0"),
        ("test", "scenes/test/0/1"),
    ]
    first = requests[0]
    assert first.prompt(9) == f" User: {first.sample.question} Assistant:"
    assert first.max_new_tokens == 12
    assert (first.question, first.image_id) == (first.sample.question, "suite/scenes/val/0/0")
    assert first.open_image().size == (192, 192)
    right, wrong = first.score(first.sample.answers[0]), first.score("nothing of the kind")
    assert right is not None
    assert wrong is not None
    assert (right.value, wrong.value, right.name) == (1, 0, "exact_match")


def test_requests_can_be_sent_to_other_processes() -> None:
    requests = questions(SCENES).requests()
    sent = pickle.loads(pickle.dumps(requests))  # noqa: S301 (what was just written)
    assert sent == requests
    assert sent[0].open_image().tobytes() == requests[0].open_image().tobytes()


def test_captions_are_scored_by_a_share_of_one_and_may_be_longer() -> None:
    (request,) = questions({"suite_captions": {"test": "test"}}, num_samples={"test": 1}).requests()
    assert request.max_new_tokens == 24
    score = request.score(request.sample.answers[0])
    assert score is not None
    assert (score.name, score.value) == ("exact_match", 1)


def test_a_question_without_a_known_answer_is_not_scored() -> None:
    (request,) = questions({"suite_facts": {"test": "test"}}, num_samples={"test": 1}).requests()
    assert replace(request, score_name=None).score("anything") is None


def test_parts_of_one_split_share_out_its_pictures() -> None:
    write_easy_vqa(Path(), num_images=30)
    requests = questions(SHARED).requests()
    assert Counter(request.split for request in requests) == NUMBERS
    parts = {request.image_id: request.split for request in requests}
    assert all(parts[request.image_id] == request.split for request in requests)
    assert len({(request.split, request.sample_id) for request in requests}) == 7


def test_more_questions_keep_those_that_were_drawn_and_move_no_picture() -> None:
    write_easy_vqa(Path(), num_images=60)
    few, many = (
        {(r.split, r.sample_id, r.image_id) for r in questions(SHARED, num_samples=number).requests()}
        for number in (NUMBERS, {"train": 20, "calibration": 6, "test": 4})
    )
    assert few < many
    other = {(r.split, r.sample_id, r.image_id) for r in questions(SHARED, seed=1).requests()}
    assert other != few


def test_a_share_that_is_too_small_is_named() -> None:
    write_easy_vqa(Path(), num_images=3)
    with pytest.raises(ValueError, match=r"easy_vqa: test: the share of \w+: num_samples: expected 1 to \d, as many"):
        questions(SHARED, num_samples=dict.fromkeys(NUMBERS, 7)).requests()


def test_a_picture_in_two_parts_is_refused(tmp_path: Path) -> None:
    lines = '{"image": "a.png", "question": "What?", "answers": ["cat"], "image_id": "coco/1"}\n'
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text(lines)
    datasets = {"one.jsonl": {"train": "all"}, "two.jsonl": {"test": "all"}}
    with pytest.raises(ValueError, match=r"two: the picture coco/1 is in the parts train and test"):
        questions(datasets, num_samples={"train": 1, "test": 1}).requests()


def test_questions_without_answers_cannot_be_scored() -> None:
    write_text_vqa(Path())
    with pytest.raises(ValueError, match=r"text_vqa: sample \S+ has no answers to be scored by"):
        questions({"text_vqa": {"test": "test"}}, num_samples={"test": 1}).requests()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": {}}, "datasets: needs at least one dataset with a part, got none"),
        ({"datasets": {"suite_scenes": {}}}, "datasets: needs at least one dataset with a part"),
        ({"datasets": {"vqa3": {"test": "test"}}}, "expected some of .*, found 'vqa3'"),
        ({"num_samples": {"train": 1}}, "num_samples: calibration: must be 1 or more for suite_scenes, got None"),
        ({"num_samples": NUMBERS | {"test": 0}}, "num_samples: test: must be 1 or more for suite_scenes, got 0"),
    ],
)
def test_impossible_questions_name_the_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        questions(**{"datasets": SCENES, **changes})
