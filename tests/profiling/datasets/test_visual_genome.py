from pathlib import Path

import pytest

from profiling.datasets.official import DatasetError
from profiling.datasets.visual_genome import coco_twins, visual_genome_image_id
from tests.dataset_files import GENOME_IMAGE, TWIN_IMAGE, VAL_IMAGE, edit_json, write_tally_qa


def test_an_image_of_both_has_the_id_of_coco(tmp_path: Path) -> None:
    write_tally_qa(tmp_path)
    twins = coco_twins(tmp_path)
    assert visual_genome_image_id(TWIN_IMAGE, twins) == f"coco/{VAL_IMAGE}"
    assert visual_genome_image_id(GENOME_IMAGE, twins) == f"visual_genome/{GENOME_IMAGE}"


def test_without_the_file_a_warning_says_what_is_not_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert coco_twins(tmp_path) == {}
    assert "image_data.json: no such file; images that Visual Genome shares with COCO count as diff" in caplog.text


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    write_tally_qa(tmp_path)
    path = tmp_path / "visual_genome" / "image_data.json"
    edit_json(path, lambda rows: rows[1].update(coco_id="7"))
    with pytest.raises(DatasetError, match=rf"records\[1\] \(image_id {GENOME_IMAGE}\): coco_id: .*integer, got '7'"):
        coco_twins(tmp_path)
