"""Images of Visual Genome; about half of them are COCO's."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from profiling.datasets.coco import coco_image_id
from profiling.datasets.official import OfficialFile, OfficialRecord

SOURCE: Final = "Visual Genome 1.2 (https://homes.cs.washington.edu/~ranjay/visualgenome/api.html)"

_log = logging.getLogger(__name__)


class _ImageData(OfficialRecord):
    image_id: int
    coco_id: int | None


def coco_twins(root: Path) -> dict[int, int]:
    """Return the COCO number of each Visual Genome image that COCO has too.

    They are in Visual Genome's ``image_data.json``. Without it nothing is known, which is logged: an image may then be
    in two parts of a split, under two ids.

    Raises:
        DatasetError: If the file is broken.
    """
    path = root / "visual_genome" / "image_data.json"
    if not path.exists():
        _log.warning("%s: no such file; images that Visual Genome shares with COCO count as different ones", path)
        return {}
    records = OfficialFile(path=path, source=SOURCE).records(_ImageData, id_fields=("image_id",))
    return {record.image_id: record.coco_id for record in records if record.coco_id is not None}


def visual_genome_image_id(number: int, twins: Mapping[int, int]) -> str:
    """Return the id that an image has in every dataset, COCO's where it has one."""
    return coco_image_id(twins[number]) if number in twins else f"visual_genome/{number}"
