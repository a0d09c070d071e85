import json
from pathlib import Path

import pytest

from profiling.files import switched_on, write_json, written_whole


def test_a_file_is_replaced_when_it_is_complete() -> None:
    target = Path("table.csv")
    target.write_text("old")
    with written_whole(target) as partial:
        assert partial.suffix == ".csv"
        partial.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(Path().iterdir()) == [target]


def test_a_failure_leaves_the_old_file_and_nothing_else() -> None:
    target = Path("table.csv")
    target.write_text("old")

    def fail() -> None:
        with written_whole(target) as partial:
            partial.write_text("half")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        fail()
    assert target.read_text() == "old"
    assert list(Path().iterdir()) == [target]


def test_json_is_written_whole_and_holds_finite_numbers_only() -> None:
    write_json(Path("a.json"), {"a": [1.5]})
    assert json.loads(Path("a.json").read_text()) == {"a": [1.5]}
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(Path("a.json"), {"a": float("nan")})
    assert json.loads(Path("a.json").read_text()) == {"a": [1.5]}


def test_what_is_off_or_null_counts_as_not_there() -> None:
    settings = {"a": 0, "b": None, "c": {"d": False, "e": [None], "f": ""}}
    assert switched_on(settings) == {"a": 0, "c": {"e": [None], "f": ""}}
    assert switched_on(None) is None
