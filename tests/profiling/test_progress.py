import io

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
