"""Small datasets in the schema of the official files, for tests of several modules."""

import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from profiling.datasets.mmmu import SUBJECTS

# Images of COCO that several datasets ask about.
TRAIN_IMAGE, VAL_IMAGE, OTHER_VAL_IMAGE, TEST_IMAGE = 9, 42, 74, 1
# One of Visual Genome that is COCO's VAL_IMAGE, and one that is not COCO's.
TWIN_IMAGE, GENOME_IMAGE = 2400, 2401


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def write_image(path: Path, *, size: tuple[int, int] = (8, 6), color: str = "red") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def coco_path(root: Path, folder: str, number: int) -> Path:
    return root / "coco" / folder / f"COCO_{folder}_{number:012}.jpg"


def write_coco_images(root: Path) -> None:
    write_image(coco_path(root, "train2014", TRAIN_IMAGE))
    write_image(coco_path(root, "val2014", VAL_IMAGE))
    write_image(coco_path(root, "val2014", OTHER_VAL_IMAGE))
    write_image(coco_path(root, "test2015", TEST_IMAGE))


def _question(question_id: int, image_id: int, question: str) -> dict[str, Any]:
    return {"image_id": image_id, "question": question, "question_id": question_id}


def _annotation(question_id: int, image_id: int, texts: list[str]) -> dict[str, object]:
    answers = [{"answer": text, "answer_confidence": "yes", "answer_id": i} for i, text in enumerate(texts, start=1)]
    return {
        "question_type": "what is the",
        "multiple_choice_answer": texts[0],
        "answers": answers,
        "image_id": image_id,
        "answer_type": "other",
        "question_id": question_id,
    }


def write_coco_2014_vqa(root: Path) -> None:
    write_coco_images(root)
    folder = root / "coco_2014_vqa"
    header = {"info": {}, "license": {}, "data_subtype": "val2014", "data_type": "mscoco"}
    questions = {
        "train2014": [_question(9000, TRAIN_IMAGE, "What is on the table?")],
        "val2014": [
            _question(42000, VAL_IMAGE, "What color is the dog?"),
            _question(42001, VAL_IMAGE, "Is it asleep?"),
            _question(74000, OTHER_VAL_IMAGE, "How many bikes?"),
        ],
        "test2015": [_question(1000, TEST_IMAGE, "Who is it?")],
    }
    answers = {9000: ["food"] * 10, 42000: ["brown"] * 7 + ["tan"] * 3, 42001: ["yes"] * 10, 74000: ["2"] * 10}
    for part, rows in questions.items():
        task = {"task_type": "Open-Ended", "questions": rows}
        write_json(folder / f"v2_OpenEnded_mscoco_{part}_questions.json", header | task)
        if part != "test2015":
            annotations = [
                _annotation(row["question_id"], row["image_id"], answers[row["question_id"]]) for row in rows
            ]
            write_json(folder / f"v2_mscoco_{part}_annotations.json", header | {"annotations": annotations})


def write_okvqa(root: Path) -> None:
    write_coco_images(root)
    for part, number in (("train2014", TRAIN_IMAGE), ("val2014", VAL_IMAGE)):
        question_id = number * 10
        annotation = _annotation(question_id, number, ["surf"] * 10) | {"confidence": 3, "question_type": "four"}
        annotation["answers"] = [
            {"answer_id": i, "raw_answer": "surfing", "answer_confidence": "yes", "answer": "surf"}
            for i in range(1, 11)
        ]
        questions = {"questions": [_question(question_id, number, "What sport is this?")]}
        write_json(root / "okvqa" / f"OpenEnded_mscoco_{part}_questions.json", questions)
        write_json(root / "okvqa" / f"mscoco_{part}_annotations.json", {"annotations": [annotation]})


def write_text_vqa(root: Path) -> None:
    folder = root / "text_vqa"
    for part, images in (("train", "train_images"), ("val", "train_images"), ("test", "test_images")):
        record = {
            "question": "what is the brand?",
            "image_id": f"00{part}",
            "image_classes": ["Mobile phone"],
            "flickr_original_url": "https://example.org/o.jpg",
            "flickr_300k_url": "https://example.org/z.jpg",
            "image_width": 8,
            "image_height": 6,
            "question_tokens": ["what", "is", "the", "brand"],
            "question_id": 34602,
            "set_name": part,
        }
        if part != "test":
            record["answers"] = ["nokia"] * 9 + ["toshiba"]
        content = {"dataset_type": part, "dataset_name": "textvqa", "dataset_version": "0.5.1", "data": [record]}
        write_json(folder / f"TextVQA_0.5.1_{part}.json", content)
        write_image(folder / images / f"00{part}.jpg")


def write_science_qa_img(root: Path) -> None:
    folder = root / "science_qa_img"
    problem = {
        "question": "Which of these states is farthest north?",
        "choices": ["West Virginia", "Louisiana", "Arizona"],
        "answer": 0,
        "hint": "",
        "image": "image.png",
        "task": "closed choice",
        "grade": "grade2",
        "subject": "social science",
        "topic": "geography",
        "category": "Geography",
        "skill": "Read a map",
        "lecture": "Maps have four directions.",
        "solution": "Look at the compass rose.",
    }
    problems = {
        "1": problem | {"split": "train"},
        "2": problem | {"split": "val", "hint": "The map shows the United States."},
        "3": problem | {"split": "val", "image": None},
        "4": problem | {"split": "val", "answer": 2},
        "5": problem | {"split": "test"},
    }
    splits = {"train": ["1"], "val": ["2", "3", "4"], "test": ["5"], "minival": ["2"]}
    write_json(folder / "problems.json", problems)
    write_json(folder / "pid_splits.json", splits)
    for split, ids in (("train", "1"), ("val", "24"), ("test", "5")):
        for own_id in ids:
            write_image(folder / "images" / split / own_id / "image.png")


def write_doc_qa(root: Path) -> None:
    folder = root / "doc_qa"
    for part, name in (("train", "train_v1.0_withQT"), ("val", "val_v1.0_withQT"), ("test", "test_v1.0")):
        records = []
        for number, page in enumerate("001", start=100):
            record = {
                "questionId": number,
                "question": "What is the date?",
                "image": f"documents/{part}_{page}.png",
                "docId": 14465,
                "ucsf_document_id": part,
                "ucsf_document_page_no": page,
                "data_split": part,
            }
            if part != "test":
                record |= {"question_types": ["layout", "form"], "answers": ["1/8/93", "1/8/93 "]}
            records.append(record)
            write_image(folder / "documents" / f"{part}_{page}.png")
        content = {"dataset_name": "SP-DocVQA", "dataset_version": "1.0", "dataset_split": part, "data": records}
        write_json(folder / f"{name}.json", content)


def st_qa_record(question_id: int, file_path: str, source: str) -> dict[str, object]:
    return {
        "file_path": file_path,
        "file_name": file_path.rpartition("/")[2],
        "dataset": source,
        "question": "What is written on the sign?",
        "answers": ["stop", "STOP"],
        "question_id": question_id,
        "set_name": "train",
    }


def write_st_qa(root: Path, *, num_train: int = 1030) -> None:
    """Write as many training questions as validation needs, most of them about one image."""
    folder = root / "st_qa"
    records = [st_qa_record(number, "icdar/a.jpg", "icdar") for number in range(num_train, 0, -1)]
    records[0] |= {"file_path": f"coco-text/COCO_train2014_{TRAIN_IMAGE:012}.jpg", "dataset": "coco-text"}
    records[1] |= {"file_path": f"visual_genome/{TWIN_IMAGE}.jpg", "dataset": "visual_genome"}
    write_json(folder / "train_task_3.json", {"dataset_name": "st-vqa", "data": records})
    for record in records[:3]:
        write_image(folder / "train_imgs" / str(record["file_path"]))
    test = st_qa_record(1, "icdar/b.jpg", "icdar")
    del test["answers"]
    write_json(folder / "test_task_3.json", {"dataset_name": "st-vqa", "data": [test]})
    write_image(folder / "test_imgs" / "icdar" / "b.jpg")


def write_tally_qa(root: Path) -> None:
    write_coco_images(root)
    for folder, number in (("VG_100K", TWIN_IMAGE), ("VG_100K_2", GENOME_IMAGE)):
        write_image(root / "visual_genome" / folder / f"{number}.jpg")
    image_data = [
        {"width": 8, "height": 6, "url": "https://example.org", "image_id": number, "coco_id": coco, "flickr_id": None}
        for number, coco in ((TWIN_IMAGE, VAL_IMAGE), (GENOME_IMAGE, None))
    ]
    write_json(root / "visual_genome" / "image_data.json", image_data)
    train = {
        "image": f"train2014/COCO_train2014_{TRAIN_IMAGE:012}.jpg",
        "answer": 3,
        "data_source": "imported_vqa",
        "question": "How many plates?",
        "image_id": TRAIN_IMAGE,
        "question_id": 9002,
    }
    twin = train | {
        "image": f"VG_100K/{TWIN_IMAGE}.jpg",
        "data_source": "amt",
        "question": "How many dogs are brown?",
        "issimple": False,
    }
    genome = twin | {"image": f"VG_100K_2/{GENOME_IMAGE}.jpg", "data_source": "imported_genome", "issimple": True}
    write_json(root / "tally_qa" / "train.json", [train, train | {"question_id": 9003}])
    # Question ids of different sources collide.
    write_json(root / "tally_qa" / "test.json", [twin, genome, genome | {"question_id": 9003}])


@cache
def png(*, size: tuple[int, int] = (8, 6), color: str = "blue") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "png")
    return buffer.getvalue()


def mmmu_row(own_id: str, *, num_images: int = 1, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": own_id,
        "question": "<image 1> What is shown?",
        "options": "['A cat', \"The dog's\", 'A bird', 'None']",
        "explanation": "",
        "img_type": "['Diagrams']",
        "answer": "B",
        "topic_difficulty": "Easy",
        "question_type": "multiple-choice",
        "subfield": "Drawing",
    }
    for number in range(1, 8):
        image = {"bytes": png(size=(10 * number, 6)), "path": f"{own_id}_{number}.png"}
        row[f"image_{number}"] = image if number <= num_images else None
    return row | changes


def write_mmmu_shard(path: Path, rows: list[dict[str, Any]], *, row_group_size: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    names = rows[0]
    schema = pa.schema([(name, image if name.startswith("image_") else pa.string()) for name in names])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=row_group_size)


def write_mmmu(root: Path, split: str = "validation") -> None:
    for subject in SUBJECTS:
        rows = [mmmu_row(f"{split}_{subject}_1")]
        if subject == "Art":
            open_row: dict[str, Any] = {"options": "[]", "answer": "['1.5', 'one and a half']", "question_type": "open"}
            rows += [mmmu_row(f"{split}_Art_2", num_images=3), mmmu_row(f"{split}_Art_3", **open_row)]
        write_mmmu_shard(root / "mmmu" / subject / f"{split}-00000-of-00001.parquet", rows)


def write_coco_caption(root: Path) -> None:
    write_coco_images(root)
    for part, numbers in (("train2014", [TRAIN_IMAGE]), ("val2014", [VAL_IMAGE, OTHER_VAL_IMAGE])):
        images = [
            {"license": 5, "file_name": f"COCO_{part}_{number:012}.jpg", "id": number, "height": 6, "width": 8}
            for number in numbers
        ]
        captions = [
            {"image_id": number, "id": 10 * number + i, "caption": f"Caption {i} of {number}."}
            for i in range(5)
            for number in numbers
        ]
        content = {"info": {}, "images": images, "licenses": [], "annotations": captions}
        write_json(root / "coco_caption" / f"captions_{part}.json", content)


def write_easy_vqa(root: Path, *, num_images: int = 2) -> None:
    data = root / "easy_vqa" / "data"
    for part in ("train", "test"):
        questions = [
            question
            for number in range(num_images)
            for question in (["what is the blue shape?", "rectangle", number], ["is there a circle?", "no", number])
        ]
        write_json(data / part / "questions.json", questions)
        for number in range(num_images):
            write_image(data / part / "images" / f"{number}.png")
    (data / "answers.txt").write_text("circle\nrectangle\nyes\nno")


def write_all(root: Path) -> None:
    for write in (
        *(write_coco_2014_vqa, write_okvqa, write_text_vqa, write_science_qa_img, write_doc_qa, write_st_qa),
        *(write_tally_qa, write_mmmu, write_coco_caption, write_easy_vqa),
    ):
        write(root)
