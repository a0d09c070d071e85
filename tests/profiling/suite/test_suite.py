import pickle
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from profiling.suite.facts import FACTS
from profiling.suite.families import FAMILIES
from profiling.suite.suite import SPLITS, PuzzleKey, suite_sample, suite_samples
from profiling.suite.symbols import SYMBOL_PARTS

ROOT = Path(__file__).parents[3]
DIGEST = """
from hashlib import sha256
from profiling.suite.families import FAMILIES
from profiling.suite.suite import suite_samples
digest = sha256()
for sample in suite_samples(list(FAMILIES), "test", num_samples=20):
    digest.update(repr((sample.question, sample.answers, sample.options)).encode() + sample.image.open().tobytes())
print(digest.hexdigest())
"""


def test_other_processes_make_the_same_puzzles_and_draw_the_same_bytes() -> None:
    digest = sha256()
    for sample in reversed(suite_samples(list(FAMILIES), "test", num_samples=20)):
        sample.image.open()  # what was drawn before changes nothing
    for sample in suite_samples(list(FAMILIES), "test", num_samples=20):
        digest.update(repr((sample.question, sample.answers, sample.options)).encode() + sample.image.open().tobytes())
    other = subprocess.run([sys.executable, "-c", DIGEST], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest.hexdigest()


@pytest.mark.parametrize("family", FAMILIES)
def test_splits_and_seeds_share_no_question_about_the_same_picture(family: str) -> None:
    seen = set[tuple[bytes, str]]()
    streams = [(split, 0) for split in SPLITS] + [("test", 1)]
    for split, seed in streams:
        for sample in suite_samples([family], split, num_samples=120, seed=seed):
            seen.add((sha256(sample.image.open().tobytes()).digest(), sample.question))
    assert len(seen) == 120 * len(streams)


def test_a_sample_says_what_results_are_told_apart_by() -> None:
    sample = suite_sample(PuzzleKey(family="choice", split="val", index=7))
    assert (sample.dataset, sample.split) == ("suite_choice", "val")
    assert sample.sample_id == "choice/val/0/7"
    assert sample.image_id == "suite/choice/val/0/7"
    assert sample.answers[0] in sample.options
    assert sample.tags["family"] == "choice"
    assert sample.tags["difficulty"] in ("easy", "hard")
    assert sample.tags["combination"] in ("seen", "unseen")
    assert sample.tags["kind"] in ("arrow", "bars", "clock", "thermometer", "chain")


def test_the_picture_of_a_sample_is_drawn_at_the_size_asked_for() -> None:
    key = PuzzleKey(family="text", split="test", index=0)
    for pixels in (64, 192, 500):
        image = suite_sample(key, canvas_pixels=pixels).image.open()
        assert isinstance(image, Image.Image)
        assert (image.size, image.mode) == ((pixels, pixels), "RGB")
        assert np.asarray(image).std() > 5


def test_a_sample_can_be_sent_to_a_worker() -> None:
    sample = suite_sample(PuzzleKey(family="facts", split="test", index=3))
    sent = pickle.loads(pickle.dumps(sample))  # noqa: S301
    assert sent == sample
    assert sent.image.open().tobytes() == sample.image.open().tobytes()


def test_samples_come_family_by_family_with_names_of_their_own() -> None:
    samples = suite_samples(["facts", "text"], "calibration", num_samples=30)
    assert [sample.dataset for sample in samples] == ["suite_facts"] * 30 + ["suite_text"] * 30
    assert len({sample.sample_id for sample in samples}) == 60
    assert len({sample.image_id for sample in samples}) == 60


def test_facts_are_those_that_checkpoints_were_trained_on() -> None:
    assert len({facts.name for facts in FACTS}) == len(FACTS) == 500
    assert crc32(repr((SYMBOL_PARTS, FACTS)).encode()) == 405054724


def test_impossible_keys_name_the_field() -> None:
    with pytest.raises(ValueError, match=r"family: must be one of scenes, .*, captions, got 'poems'"):
        PuzzleKey(family="poems", split="test", index=0)
    with pytest.raises(ValueError, match="split: must be one of train, val, calibration, test, got 'dev'"):
        PuzzleKey(family="text", split="dev", index=0)
    with pytest.raises(ValueError, match="index: must be 0 or more, got -1"):
        PuzzleKey(family="text", split="test", index=-1)
