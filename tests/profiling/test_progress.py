import io
import threading

from rich.console import Console

from profiling.progress import progress_bar


def counts(*, seconds_each: float) -> list[str]:
    """Return how far the lines are that ten steps leave in a file."""
    now_s = [0.0]
    file = io.StringIO()
    console = Console(file=file, width=100, get_time=lambda: now_s[0])
    with progress_bar(console) as progress:
        task = progress.add_task("measuring", total=10)
        for _ in range(10):
            now_s[0] += seconds_each
            progress.advance(task)
    return [line.split()[-4] for line in file.getvalue().splitlines()]


def test_a_file_gets_a_line_every_half_minute_and_at_the_end() -> None:
    assert counts(seconds_each=12.0) == ["3/10", "6/10", "9/10", "10/10"]
    assert counts(seconds_each=40.0) == [f"{done}/10" for done in (*range(1, 11), 10)]


def test_what_is_quickly_done_leaves_one_line() -> None:
    assert counts(seconds_each=0.1) == ["10/10"]


def test_where_steps_are_timed_the_bar_is_drawn_by_no_thread_and_behind_steps_alone() -> None:
    now_s = [0.0]
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=True, get_time=lambda: now_s[0])
    num_threads = threading.active_count()
    with progress_bar(console, times_steps=True) as progress:
        assert threading.active_count() == num_threads
        task = progress.add_task("measuring", total=10)
        drawn = []
        for seconds in (0.5, 0.01, 0.5):
            file.truncate(0)
            now_s[0] += seconds
            progress.advance(task)
            drawn.append("/10" in file.getvalue())
    assert drawn == [True, False, True]


def test_where_nothing_is_timed_the_bar_keeps_itself_up_to_date() -> None:
    num_threads = threading.active_count()
    with progress_bar(Console(file=io.StringIO(), width=100, force_terminal=True)):
        assert threading.active_count() == num_threads + 1
