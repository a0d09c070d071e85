import threading

import pytest

from models.stages import observe, stage


class Recorder:
    def __init__(self) -> None:
        self.marks: list[str] = []

    def begin(self, name: str) -> None:
        self.marks.append(f"+{name}")

    def end(self, name: str) -> None:
        self.marks.append(f"-{name}")


def test_stages_without_observer_do_nothing() -> None:
    with stage("prefill"):
        pass


def test_an_observer_hears_stages_inside_one_another() -> None:
    recorder = Recorder()
    with observe(recorder), stage("total"), stage("prefill"):
        pass
    assert recorder.marks == ["+total", "+prefill", "-prefill", "-total"]


def test_an_exception_ends_the_stage() -> None:
    recorder = Recorder()
    with pytest.raises(RuntimeError, match="broken"), observe(recorder), stage("decode"):
        raise RuntimeError("broken")
    assert recorder.marks == ["+decode", "-decode"]


def test_the_observer_leaves_with_its_block_also_after_an_exception() -> None:
    recorder = Recorder()
    with pytest.raises(RuntimeError, match="broken"), observe(recorder):
        raise RuntimeError("broken")
    with stage("prefill"):
        pass
    assert recorder.marks == []


def test_the_inner_observer_hears_alone() -> None:
    outer, inner = Recorder(), Recorder()
    with observe(outer):
        with observe(inner), stage("prefill"):
            pass
        with stage("decode"):
            pass
    assert inner.marks == ["+prefill", "-prefill"]
    assert outer.marks == ["+decode", "-decode"]


def test_a_stage_ends_at_the_observer_that_heard_it_begin() -> None:
    outer, inner = Recorder(), Recorder()
    with observe(outer):
        mark = stage("prefill")
        mark.__enter__()
        with observe(inner):
            mark.__exit__(None, None, None)
    assert outer.marks == ["+prefill", "-prefill"]
    assert inner.marks == []


def test_other_threads_are_not_heard() -> None:
    recorder = Recorder()

    def run() -> None:
        with stage("prefill"):
            pass

    with observe(recorder):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert recorder.marks == []
