from pathlib import Path

import pytest

from profiling.datasets.official import DatasetError, OfficialFile, OfficialRecord, split_name
from tests.dataset_files import write_json


class _Word(OfficialRecord):
    id: int
    word: str


def _file(tmp_path: Path, content: object) -> OfficialFile:
    write_json(tmp_path / "words.json", content)
    return OfficialFile(path=tmp_path / "words.json", source="Words 1.0 (https://example.org)")


def _words(file: OfficialFile) -> list[_Word]:
    return list(file.records(_Word, id_fields=("id",), key="words"))


def test_records_are_read_and_other_fields_left_alone(tmp_path: Path) -> None:
    file = _file(tmp_path, {"info": 1, "words": [{"id": 3, "word": "tree", "length": 4}]})
    assert _words(file) == [_Word(id=3, word="tree")]


def test_a_missing_file_says_what_belongs_there(tmp_path: Path) -> None:
    file = OfficialFile(path=tmp_path / "words.json", source="Words 1.0 (https://example.org)")
    with pytest.raises(DatasetError, match=r"words\.json: no such file; words\.json of Words 1\.0 \(https.* there"):
        _words(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"words": [{"id": 1, "wo', r"line 1, column 22: not JSON: .*, the file may be cut short"),
        (b"", r"line 1, column 1: not JSON: .*, the file may be cut short"),
        (b'{"words": nothing}', r"line 1, column 11: not JSON: Expecting value$"),
        (b'{"words": "\xff"}', "byte 11: not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_json_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "words.json").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"words\.json: {message}"):
        _words(OfficialFile(path=tmp_path / "words.json", source="Words"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected an object, found a list"),
        ({"sentences": []}, "words: required field is missing, found sentences"),
        ({"words": {}}, "words: expected a list, found an object"),
        ({"words": [{"id": 1, "word": "a"}, 5]}, r"words\[1\]: .*valid dictionary.*, got 5"),
        ({"words": [{"id": 1}]}, r"words\[0\] \(id 1\): word: required field is missing"),
        ({"words": [{"id": "1", "word": "a"}]}, r"words\[0\] \(id 1\): id: Input should be a valid integer, got '1'"),
        ({"words": [{"id": 1, "word": 2}]}, r"words\[0\] \(id 1\): word: Input should be a valid string, got 2"),
        (
            {"words": [{"id": 1, "word": "a"}, {"id": 2, "word": "b"}, {"id": 1, "word": "c"}]},
            r"words\[2\]: id 1 is taken, words\[0\] has it too",
        ),
    ],
)
def test_a_wrong_record_is_named(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(DatasetError, match=rf"words\.json: {message}"):
        _words(_file(tmp_path, content))


def test_a_file_that_is_the_list_itself(tmp_path: Path) -> None:
    assert list(_file(tmp_path, [{"id": 1, "word": "a"}]).records(_Word, id_fields=("id",))) == [_Word(id=1, word="a")]
    with pytest.raises(DatasetError, match=r"records\[0\]: "):
        list(_file(tmp_path, [None]).records(_Word, id_fields=("id",)))
    with pytest.raises(DatasetError, match=r"words\.json: expected a list, found null"):
        _file(tmp_path, None).rows()


def test_a_split_that_a_dataset_lacks_is_refused() -> None:
    assert split_name({"validation": "val"}, "validation", dataset="words") == "val"
    with pytest.raises(DatasetError, match="words: split: expected one of validation, found 'val'"):
        split_name({"validation": "val"}, "val", dataset="words")
