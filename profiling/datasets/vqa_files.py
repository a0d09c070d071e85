"""Questions and annotations in the layout of VQA, which VQA v2 and OK-VQA share."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from profiling.datasets.coco import coco_image, coco_image_id
from profiling.datasets.official import DatasetError, OfficialFile, OfficialRecord
from profiling.datasets.sample import Sample


class VqaAnswer(OfficialRecord):
    """One annotator's answer."""

    answer: str

    @property
    def text(self) -> str:
        """What is compared with a prediction."""
        return self.answer


class VqaAnnotation(OfficialRecord):
    """What is known about a question."""

    question_id: int
    image_id: int
    answers: Sequence[VqaAnswer] = Field(min_length=1)
    question_type: str | None = None
    answer_type: str | None = None

    @property
    def tags(self) -> dict[str, str]:
        """What results are reported apart by."""
        tags = {"question_type": self.question_type, "answer_type": self.answer_type}
        return {name: value for name, value in tags.items() if value is not None}


class VqaQuestion(OfficialRecord):
    """A question about a COCO image."""

    question_id: int
    image_id: int
    question: str = Field(min_length=1)


def read_vqa_files(
    questions: OfficialFile,
    annotations: OfficialFile | None,
    *,
    dataset: str,
    split: str,
    root: Path,
    image_folder: str,
    annotation_model: type[VqaAnnotation] = VqaAnnotation,
) -> list[Sample]:
    """Read one part of a dataset.

    Args:
        questions: The file of questions.
        annotations: The file of answers; ``None`` where they are kept back.
        dataset: Its name.
        split: The part's name.
        root: The folder of all datasets.
        image_folder: COCO's folder, such as ``val2014``.
        annotation_model: What is read of an annotation.

    Raises:
        DatasetError: If a file is missing or broken, or questions and annotations do not match.
    """
    asked = list(questions.records(VqaQuestion, id_fields=("question_id",), key="questions"))
    known = {} if annotations is None else _known(annotations, annotation_model, asked, questions.path)
    return [
        Sample(
            dataset=dataset,
            split=split,
            sample_id=str(question.question_id),
            image_id=coco_image_id(question.image_id),
            image=coco_image(root, image_folder, question.image_id),
            question=question.question,
            answers=answers,
            tags=tags,
        )
        for question in asked
        for answers, tags in (known.get(question.question_id, ((), {})),)
    ]


def _known(
    file: OfficialFile, model: type[VqaAnnotation], asked: list[VqaQuestion], questions_path: Path
) -> dict[int, tuple[tuple[str, ...], dict[str, str]]]:
    """Return the answers to each question, and its tags."""
    known = {}
    image_by_question = {question.question_id: question.image_id for question in asked}
    for index, annotation in enumerate(file.records(model, id_fields=("question_id",), key="annotations")):
        image_id = image_by_question.pop(annotation.question_id, None)
        if image_id != annotation.image_id:
            expected = "a question" if image_id is None else f"image_id {image_id}"
            raise DatasetError(
                f"{file.path}: annotations[{index}] (question_id {annotation.question_id}): expected {expected} of "
                f"{questions_path}, found image_id {annotation.image_id}"
            )
        known[annotation.question_id] = tuple(answer.text for answer in annotation.answers), annotation.tags
    if image_by_question:
        raise DatasetError(
            f"{file.path}: expected an annotation of every question of {questions_path}, found none of question_id "
            f"{next(iter(image_by_question))} (and {len(image_by_question) - 1} more)"
        )
    return known
