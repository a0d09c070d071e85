from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.question import QuestionDataModule
from profiling.vqa_batch import VQABatch


def batch_of(image: str, question: str = " what is it? ") -> VQABatch:
    data = QuestionDataModule(image, question)
    data.setup("predict")
    (batch,) = data.predict_dataloader()
    assert len(data.predict_dataloader()) == 1
    return batch


def test_the_one_batch_holds_picture_and_question() -> None:
    Image.new("RGB", (30, 20), "red").save("a.png")
    batch = batch_of("a.png")
    (sample,) = batch.samples
    assert (sample.question, sample.sample_id, sample.answers) == ("what is it?", "a.png", ())
    assert batch.images[0].size == (30, 20)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "CMYK"])
def test_pictures_of_any_kind_become_rgb(mode: str) -> None:
    file = "a.jpg" if mode == "CMYK" else "a.png"
    Image.new("RGB", (8, 6), "white").convert(mode).save(file)
    (image,) = batch_of(file).images
    assert image.mode == "RGB"
    assert (np.asarray(image) == 255).all()


def test_pictures_are_turned_upright() -> None:
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: what is on top belongs to the right
    Image.fromarray(pixels).save("a.png", exif=exif)
    (image,) = batch_of("a.png").images
    assert image.size == (4, 6)
    assert (np.asarray(image)[:, -1] == 255).all()
    assert (np.asarray(image)[:, 0] == 0).all()


@pytest.mark.parametrize(
    ("image", "question", "message"),
    [
        (None, "what?", "image: name the file of a picture, got None"),
        ("", "what?", "image: name the file of a picture, got ''"),
        ("a.png", None, "question: say what to ask about a.png, got None"),
        ("a.png", " \n", "question: say what to ask about a.png"),
        ("nowhere.png", "what?", "nowhere.png: no such image"),
        (".", "what?", ".: cannot be read: Is a directory"),
        ("cut.png", "what?", "cut.png: cannot be decoded as an image"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(image: str | None, question: str | None, message: str) -> None:
    Path("cut.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ValueError, match=message):
        QuestionDataModule(image, question).setup("predict")
