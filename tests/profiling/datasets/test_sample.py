import io
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from profiling.datasets.sample import ImageFile, decode_rgb
from tests.dataset_files import png, write_image


def test_an_image_is_opened_as_rgb(tmp_path: Path) -> None:
    Image.new("L", (4, 3), 7).save(tmp_path / "grey.png")
    image = ImageFile(path=tmp_path / "grey.png").open()
    assert image.mode == "RGB"
    assert image.size == (4, 3)
    assert image.getpixel((0, 0)) == (7, 7, 7)


def test_transparency_is_dropped_without_a_warning(tmp_path: Path) -> None:
    palette = Image.new("P", (4, 3), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "palette.png", transparency=b"\x80\x00")
    Image.new("RGBA", (4, 3), (10, 20, 30, 0)).save(tmp_path / "alpha.png")
    for name in ("palette.png", "alpha.png"):
        assert ImageFile(path=tmp_path / name).open().getpixel((1, 1)) == (10, 20, 30)


def test_an_image_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert ImageFile(path=tmp_path / "turned.jpg").open().size == (4, 8)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.png: no such image"):
        ImageFile(path=tmp_path / "gone.png").open()
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        ImageFile(path=tmp_path).open()


def test_an_image_that_would_be_clipped_is_refused(tmp_path: Path) -> None:
    Image.new("I;16", (4, 4), 60_000).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png: expected 8 bits a channel, found a picture of mode 'I;16'"):
        ImageFile(path=tmp_path / "deep.png").open()


def test_an_image_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    source = ImageFile(path=tmp_path / "a.png")
    assert pickle.loads(pickle.dumps(source)) == source  # noqa: S301


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6
    Image.linear_gradient("L").resize((24, 16)).save(buffer, "jpeg", exif=exif)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore")  # Pillow warns of some kinds of damage
@given(
    encoded=st.sampled_from([png(), _jpeg()]),
    place=st.integers(0, 2000),
    damage=st.binary(max_size=4),
    is_cut=st.booleans(),
)
def test_a_damaged_image_is_decoded_or_named(encoded: bytes, place: int, damage: bytes, is_cut: bool) -> None:
    place %= len(encoded)
    damaged = encoded[:place] + damage + (b"" if is_cut else encoded[place + len(damage) :])
    try:
        assert decode_rgb(io.BytesIO(damaged), name="a.png").mode == "RGB"
    except ValueError as err:
        assert str(err).startswith("a.png: ")  # noqa: PT017 - either will do
