import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import PolyCollection
from scipy.stats import beta

from profiling.adaptive.figures import plot_runs
from profiling.adaptive.run_comparison import RunComparison, compare
from profiling.adaptive.run_files import Run
from profiling.adaptive.served import Served
from profiling.resampling import Interval
from tests.served_rows import served_row

SUBJECT = "tiny, eager engine, a device"


def run(name: str, rows: list[Served], *, subject: str = SUBJECT) -> Run:
    return Run(name=name, policy=f"{name} policy", subject=subject, rows=rows)


def four(**late: Any) -> list[Served]:
    """Right, right, half right and wrong, two requests about either of two images."""
    accuracies = (1.0, 1.0, 0.5, 0.0)
    return [
        served_row(sample_id=f"s{place}", image_id=f"i{place // 2}", accuracy=accuracy, **late.get(f"s{place}", {}))
        for place, accuracy in enumerate(accuracies)
    ]


def many(rights: np.ndarray, *, budgets_ms: tuple[float, ...] = (50.0, 80.0)) -> list[Served]:
    """The same answers under every budget, two questions about an image."""
    return [
        served_row(sample_id=f"s{place}", image_id=f"i{place // 2}", budget_ms=ms, accuracy=float(right))
        for ms in budgets_ms
        for place, right in enumerate(rights)
    ]


def clear_case() -> RunComparison:
    rng = np.random.default_rng(0)
    base = rng.random(120)
    runs = [run(name, many(base < share)) for name, share in (("good", 0.8), ("plain", 0.5), ("bad", 0.3))]
    return compare([*runs, run("same", many(base < 0.5))], reference="plain", seed=0)


def test_goodput_and_its_difference_are_those_counted_by_hand() -> None:
    late = run("late", four(s1={"latency_ms": 60.0}, s3={"is_infeasible": True}))
    comparison = compare([run("prompt", four()), late], reference="prompt", seed=0)
    prompt, late_one = comparison.overall["prompt"], comparison.overall["late"]
    assert (prompt.standing.goodput.value, late_one.standing.goodput.value) == (2.5 / 4, 1.5 / 4)
    assert late_one.standing.difference.value == -0.25
    # Image 0 loses half a point a request and image 1 nothing; each is drawn twice in a quarter of the draws.
    assert (late_one.standing.difference.low, late_one.standing.difference.high) == (-0.5, 0.0)
    assert late_one.standing.verdict == "tie"
    in_time = late_one.totals.adherence
    assert (in_time.value, in_time.low) == pytest.approx((0.5, beta.ppf(0.025, 2, 3)))
    assert comparison.by_budget[50.0]["late"].standing == late_one.standing  # there is one budget


def test_the_order_of_rows_is_no_matter() -> None:
    rng = np.random.default_rng(0)
    one, two = many(rng.random(40) < 0.5), many(rng.random(40) < 0.6)
    shuffled = [two[place] for place in rng.permutation(len(two))]
    plain, other = (compare([run("one", one), run("two", rows)], reference="one", seed=0) for rows in (two, shuffled))
    assert plain.overall == other.overall
    assert plain.by_budget == other.by_budget


def test_a_run_of_the_same_answers_is_a_tie_without_any_width() -> None:
    standing = clear_case().overall["same"].standing
    assert standing.difference == Interval(value=0.0, low=0.0, high=0.0)
    assert (standing.p_value, standing.verdict) == (1.0, "tie")


def test_clear_differences_are_told_and_corrected_for_the_number_of_runs() -> None:
    overall = clear_case().overall
    assert [overall[name].standing.verdict for name in ("good", "bad")] == ["better", "worse"]
    assert overall["good"].standing.p_value == pytest.approx(3 * 2 / 20001)
    assert overall["good"].standing.difference.low > 0


def test_all_budgets_of_an_image_are_drawn_together() -> None:
    comparison = clear_case()
    for reached in comparison.by_budget.values():  # twice the requests, but no more images
        alone, together = reached["good"].standing.difference, comparison.overall["good"].standing.difference
        assert (alone.low, alone.high) == pytest.approx((together.low, together.high))


def test_tables_say_what_was_compared_with_what() -> None:
    of_runs, of_budgets = clear_case().tables()
    cells = {row[0]: dict(zip(of_runs.columns, row, strict=True)) for row in of_runs.rows}
    assert list(cells) == ["good", "plain", "bad", "same"]
    assert (cells["plain"]["difference [95 %]"], cells["plain"]["verdict"]) == ("reference", "-")
    assert cells["same"]["difference [95 %]"] == "+0.000 [+0.000, +0.000]"
    assert cells["bad"]["verdict"] == "worse"
    assert cells["good"]["latency / budget p50 / p95 / p99"] == "0.65 / 0.80 / 0.80"
    assert of_runs.caption.startswith(
        f"good (good policy), plain (plain policy), bad (bad policy), same (same policy) on {SUBJECT}. "
        "240 requests about 60 images under 2 budgets."
    )
    assert [row[0] for row in of_budgets.rows] == ["50", "80"]
    heads = ("good", "plain", "bad", "same", "good - plain", "bad - plain", "same - plain")
    assert of_budgets.columns == ("budget (ms)", *(f"{head} [95 %]" for head in heads))
    assert of_budgets.rows[0][-1] == "+0.000 [+0.000, +0.000]"
    assert [len(table.columns) for table in clear_case().summaries()] == [7, 8]


def test_runs_on_different_devices_are_compared_visibly() -> None:
    runs = [run("here", four()), run("there", four(), subject="tiny, another device")]
    assert compare(runs, reference="here", seed=0).subject() == (
        f"Not all on the same model, device and software: here (here policy) on {SUBJECT}; there (there policy) on "
        "tiny, another device"
    )


def test_files_hold_the_tables_the_picture_and_every_number() -> None:
    comparison = clear_case()
    comparison.write(Path("out/compared"))
    suffixes = {path.suffix for path in Path("out/compared").iterdir()}
    assert suffixes == {".json", ".md", ".tex", ".png"}
    content = json.loads(Path("out/compared/comparison.json").read_text())
    assert (content["reference"], content["num_requests"], content["num_images"]) == ("plain", 240, 60)
    good = content["runs"][0]
    assert (good["name"], good["policy"], good["subject"], good["verdict"]) == (
        "good",
        "good policy",
        SUBJECT,
        "better",
    )
    assert good["goodput"]["value"] == good["totals"]["goodput"] == comparison.overall["good"].totals.goodput
    assert good["totals"]["overhead_share"] == pytest.approx(0.5 / 40)
    assert [budget["totals"]["budget_ms"] for budget in good["budgets"]] == [50.0, 80.0]
    assert set(good["budgets"][0]) == {"goodput", "difference", "totals"}
    markdown = Path("out/compared/comparison.md").read_text()
    assert "![Goodput and share in time by budget](comparison.png)" in markdown
    assert markdown.count("\n\n") == 4
    assert Path("out/compared/comparison.tex").read_text().count(r"\begin{table}") == 2


def test_budgets_of_the_requests_own_are_not_told_apart() -> None:
    rows = [served_row(sample_id=f"s{ms}", image_id=f"i{ms}", budget_ms=float(ms)) for ms in range(50, 80)]
    comparison = compare([run("one", rows), run("two", rows)], reference="one", seed=0)
    comparison.write(Path("out"))
    assert {path.name for path in Path("out").iterdir()} == {f"comparison.{end}" for end in ("json", "md", "tex")}
    assert "30 requests about 30 images under budgets of their own" in Path("out/comparison.md").read_text()


def test_the_picture_has_a_line_and_a_band_for_each_run() -> None:
    goodput = {
        "one": [Interval(value=0.5, low=0.4, high=0.6), Interval(value=0.7, low=0.6, high=0.9)],
        "two": [Interval(value=0.3, low=0.2, high=0.4), Interval(value=0.4, low=0.3, high=0.5)],
    }
    in_time = {name: [Interval(value=0.9, low=0.8, high=1.0)] * 2 for name in goodput}
    figure = plot_runs([40.0, 60.0], goodput, in_time, caption="a device, 12 requests")
    right, prompt = figure.axes
    assert {line.get_label(): list(np.asarray(line.get_ydata())) for line in right.lines} == {
        "one": [0.5, 0.7],
        "two": [0.3, 0.4],
    }
    band = right.collections[0]
    assert isinstance(band, PolyCollection)
    corners = np.asarray(band.get_paths()[0].vertices)
    assert {tuple(corner) for corner in corners} == {(40.0, 0.4), (40.0, 0.6), (60.0, 0.6), (60.0, 0.9)}
    assert [list(np.asarray(line.get_ydata())) for line in prompt.lines] == [[0.9, 0.9]] * 2
    assert len(prompt.collections) == 2
    assert (right.get_ylabel(), prompt.get_ylabel()) == ("goodput: right and in time", "in time")
    assert prompt.get_xlabel() == "budget (ms)"
    assert [label.get_text() for label in prompt.get_xticklabels()] == ["40", "60"]
    assert figure.get_suptitle().startswith("a device, 12 requests\nBands: 95 % intervals")
    plt.close(figure)
