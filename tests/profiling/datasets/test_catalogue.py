import json
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from shutil import copytree
from string import ascii_uppercase
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.datasets.catalogue import CATALOGUE, dataset_entry, read_dataset
from profiling.datasets.official import DatasetError
from profiling.datasets.prompt import prompt_text
from profiling.scoring import Scorer
from profiling.suite.families import FAMILIES
from profiling.suite.suite import suite_samples
from profiling.suite.vocabulary import tokenize
from tests.dataset_files import edit_json, write_all, write_st_qa


class JsonFile(NamedTuple):
    """An annotation file of a dataset's default split: where its records are, a field of theirs, and their id's."""

    dataset: str
    name: str
    key: str | None
    field: str
    id_field: str

    def records(self, content: Any) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = content if self.key is None else content[self.key]
        return records


JSON_FILES = [
    JsonFile("coco_2014_vqa", "v2_OpenEnded_mscoco_val2014_questions.json", "questions", "question", "question_id"),
    JsonFile("coco_2014_vqa", "v2_mscoco_val2014_annotations.json", "annotations", "answers", "question_id"),
    JsonFile("okvqa", "mscoco_val2014_annotations.json", "annotations", "answers", "question_id"),
    JsonFile("text_vqa", "TextVQA_0.5.1_val.json", "data", "image_id", "question_id"),
    JsonFile("st_qa", "train_task_3.json", "data", "file_path", "question_id"),
    JsonFile("doc_qa", "val_v1.0_withQT.json", "data", "image", "questionId"),
    JsonFile("tally_qa", "test.json", None, "answer", "question_id"),
    JsonFile("coco_caption", "captions_val2014.json", "annotations", "caption", "id"),
]


@pytest.fixture(scope="module")
def whole_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All datasets; nobody changes them."""
    folder = tmp_path_factory.mktemp("datasets")
    write_all(folder)
    return folder


@pytest.fixture
def root(whole_root: Path, tmp_path: Path) -> Path:
    """A copy of all datasets, to change."""
    return copytree(whole_root, tmp_path, dirs_exist_ok=True)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_dataset_is_read_with_images_that_open(whole_root: Path, name: str) -> None:
    samples = read_dataset(name, root=whole_root)
    assert len({sample.sample_id for sample in samples}) == len(samples)
    for sample in samples:
        assert (sample.dataset, sample.split) == (name, CATALOGUE[name].default_split)
        assert sample.answers
        assert sample.question
        assert not sample.options or set(sample.answers) <= set(sample.options)
    assert samples[0].image.open().mode == "RGB"


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_dataset_is_asked_and_scored_by_its_own_rule(whole_root: Path, name: str) -> None:
    entry, samples = CATALOGUE[name], read_dataset(name, root=whole_root)
    scorer = Scorer.for_samples(entry.score, samples)
    for sample in samples[:5]:
        assert prompt_text(sample).startswith(sample.question)
        answer = sample.answers[0]
        text = ascii_uppercase[sample.options.index(answer)] if sample.options else answer
        assert scorer.score(text, sample).value > scorer.score("nonsense", sample).value == 0


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_unknown_split_is_refused(whole_root: Path, name: str) -> None:
    entry = CATALOGUE[name]
    assert entry.default_split in entry.splits
    with pytest.raises(DatasetError, match=rf"{name}: split: expected one of {', '.join(entry.splits)}, found 'some'"):
        read_dataset(name, "some", root=whole_root)


@pytest.mark.parametrize("file", JSON_FILES, ids=lambda file: file.name)
def test_a_missing_or_cut_file_is_named(root: Path, file: JsonFile) -> None:
    path = root / file.dataset / file.name
    path.write_bytes(path.read_bytes()[:-20])
    cut = rf"{file.name}: line 1, column \d+: not JSON: .*, the file may be cut short"
    with pytest.raises(DatasetError, match=cut):
        read_dataset(file.dataset, root=root)
    path.unlink()
    with pytest.raises(DatasetError, match=rf"{file.name}: no such file; {file.name} of .* belongs there"):
        read_dataset(file.dataset, root=root)


@pytest.mark.parametrize("file", JSON_FILES, ids=lambda file: file.name)
def test_a_wrong_record_is_named(root: Path, file: JsonFile) -> None:
    where = rf"{file.name}: \w+\[\d+\] \(.*{file.id_field} \d+\): {file.field}: "
    path = root / file.dataset / file.name
    whole = path.read_text()
    edit_json(path, lambda content: file.records(content)[-1].update({file.field: {"no": 1}}))
    with pytest.raises(DatasetError, match=rf"{where}Input should be .*, got {{'no': 1}}"):
        read_dataset(file.dataset, root=root)
    path.write_text(whole)
    edit_json(path, lambda content: file.records(content)[-1].pop(file.field))
    with pytest.raises(DatasetError, match=f"{where}required field is missing"):
        read_dataset(file.dataset, root=root)


@pytest.mark.parametrize("file", JSON_FILES, ids=lambda file: file.name)
def test_an_id_that_occurs_twice_is_named(root: Path, file: JsonFile) -> None:
    path = root / file.dataset / file.name
    edit_json(path, lambda content: file.records(content).append(file.records(content)[0]))
    taken = rf"{file.name}: \w+\[\d+\]: .*{file.id_field} \d+ is taken, \w+\[0\] has it too"
    with pytest.raises(DatasetError, match=taken):
        read_dataset(file.dataset, root=root)


@pytest.fixture(scope="module")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("datasets")
    write_all(folder)
    write_st_qa(folder, num_train=6)
    return folder


def _places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    parts = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, part in parts:
        yield from _places(part, (*place, key))


@settings(max_examples=150, deadline=None)
@given(
    file=st.sampled_from(JSON_FILES),
    number=st.integers(0, 1000),
    value=st.sampled_from([None, True, -1, 0, 7, 2**70, 0.5, "", "x", "../x", [], [1], {}, {"a": 1}]),
)
def test_whatever_is_put_anywhere_in_a_file_is_read_or_named(
    small_root: Path, file: JsonFile, number: int, value: object
) -> None:
    path = small_root / file.dataset / file.name
    whole = path.read_text()
    content = {"file": json.loads(whole)}
    places = [place for place in _places(content) if place]
    *above, last = places[number % len(places)]
    reduce(getitem, above, content)[last] = value
    path.write_text(json.dumps(content["file"]))
    try:
        read_dataset(file.dataset, root=small_root)
    except DatasetError as err:
        assert str(small_root / file.dataset) in str(err) or str(err).endswith("holds no samples")  # noqa: PT017
    finally:
        path.write_text(whole)


def test_an_unknown_dataset_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"dataset_names: expected some of coco_2014_vqa, .*, found 'vqa_v2'"):
        dataset_entry("vqa_v2")


def test_the_root_comes_from_the_environment(whole_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLMO_DATA_DIR", str(whole_root))
    assert len(read_dataset("text_vqa")) == 1


def test_a_subset_is_drawn_by_the_seed_and_keeps_the_order(whole_root: Path) -> None:
    def ids(num_samples: int, seed: int) -> list[str]:
        return [
            sample.sample_id for sample in read_dataset("st_qa", root=whole_root, num_samples=num_samples, seed=seed)
        ]

    whole = [sample.sample_id for sample in read_dataset("st_qa", root=whole_root)]
    assert ids(1024, 0) == whole
    drawn = ids(50, 1)
    assert drawn == ids(50, 1) != ids(50, 2)
    assert [own_id for own_id in whole if own_id in set(drawn)] == drawn
    assert set(drawn) < set(ids(100, 1))


@pytest.mark.parametrize("num_samples", [0, 4])
def test_a_number_of_samples_that_there_is_not_is_refused(whole_root: Path, num_samples: int) -> None:
    wrong = f"coco_2014_vqa: validation: num_samples: expected 1 to 3, as many as there are, found {num_samples}"
    with pytest.raises(DatasetError, match=wrong):
        read_dataset("coco_2014_vqa", root=whole_root, num_samples=num_samples)


def test_an_empty_dataset_is_refused(root: Path) -> None:
    edit_json(root / "text_vqa" / "TextVQA_0.5.1_val.json", lambda content: content["data"].clear())
    with pytest.raises(DatasetError, match="text_vqa: validation: holds no samples"):
        read_dataset("text_vqa", root=root)


def test_only_what_the_molmo_loader_gets_wrong_differs_with_it(whole_root: Path) -> None:
    for name in CATALOGUE:
        is_same = read_dataset(name, root=whole_root) == read_dataset(name, root=whole_root, molmo_compat=True)
        assert is_same == (name != "science_qa_img")


def test_a_file_of_questions_is_a_dataset_and_needs_no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOLMO_DATA_DIR", raising=False)
    Path("robots.jsonl").write_text(json.dumps({"image": "a.png", "question": "What?", "answers": ["x"]}) + "\n")
    (sample,) = read_dataset("robots.jsonl")
    assert (sample.dataset, sample.split) == ("robots", "all")


def test_questions_with_options_may_have_a_style_of_their_own(whole_root: Path) -> None:
    entry = dataset_entry("mmmu")
    styles = {
        sample.tags["question_type"]: entry.prompt_style(sample) for sample in read_dataset("mmmu", root=whole_root)
    }
    assert styles == {"multiple-choice": "a_okvqa_mc", "open": "vqa2"}
    science = dataset_entry("science_qa_img")
    assert {science.prompt_style(sample) for sample in read_dataset("science_qa_img", root=whole_root)} == {
        "science_qa"
    }


DOCUMENT = Path(__file__).parents[3] / "docs" / "datasets.md"


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_dataset_is_documented_as_it_is(name: str) -> None:
    entry = CATALOGUE[name]
    table = DOCUMENT.read_text().split("## What is read\n")[1].split("\n## ")[0]
    (row,) = [line for line in table.splitlines() if line.startswith(f"| `{name}` |")]
    assert f"| `{entry.score}` |" in row
    assert f"`{entry.style}`" in row
    assert f"| {entry.max_new_tokens}" in row
    assert f"**{entry.default_split}**" in row


SUITE = [f"suite_{family}" for family in FAMILIES]


@pytest.mark.parametrize("name", SUITE)
def test_a_family_of_the_suite_needs_no_root_and_has_no_last_sample(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOLMO_DATA_DIR", raising=False)
    family = name.removeprefix("suite_")
    assert read_dataset(name) == suite_samples([family], "val")
    for split in ("train", "val", "calibration", "test"):
        assert read_dataset(name, split, num_samples=3) == suite_samples([family], split, num_samples=3)
    assert len({sample.image_id for sample in read_dataset(name, num_samples=1001)}) == 1001
    with pytest.raises(DatasetError, match=f"{name}: val: num_samples: expected 1 or more, found 0"):
        read_dataset(name, num_samples=0)


@pytest.mark.parametrize("name", SUITE)
def test_answers_of_the_suite_fit_into_the_tokens_allowed_and_score_in_full(name: str) -> None:
    entry, samples = dataset_entry(name), read_dataset(name, num_samples=200)
    scorer = Scorer.for_samples(entry.score, samples)
    for sample in samples:
        for answer in sample.answers:
            assert len(tokenize(answer)) < entry.max_new_tokens
            if entry.score.is_fraction:
                assert scorer.score(answer.upper(), sample).value == 1


def test_options_that_a_question_names_are_not_asked_twice() -> None:
    for sample in read_dataset("suite_choice", num_samples=20):
        assert prompt_text(sample) == sample.question
        assert all(option in sample.question for option in sample.options)
