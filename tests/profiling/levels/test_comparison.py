import matplotlib.pyplot as plt
import numpy as np
import pytest

from models.knobs import ExpertCounts
from profiling.levels.candidates import Candidate, Kind, uniform
from profiling.levels.comparison import Compared, Measured, adopted, compare
from profiling.levels.figure import plot_levels
from profiling.levels.report import levels_json, levels_table
from profiling.subsets.job import NO_COST, Outcome

NUM_SAMPLES = 200


def outcome(*num_right: int) -> Outcome:
    """Answers on datasets of which so many are right, the first ones."""
    places = np.arange(NUM_SAMPLES)
    values = {str(name): {"accuracy": (places < right).astype(float)} for name, right in enumerate(num_right)}
    return Outcome(values=values, cost=NO_COST)


def measured(
    candidate: Candidate, *, train: int, validation: int, time_ms: float = 99.0, spread_ms: float = 0.0
) -> Measured:
    """A mean time over requests that differ by themselves, and by as much as said from one run to another."""
    times_ms = time_ms + np.tile([-2.0, 0.0, 2.0], 10) + spread_ms * np.repeat([-1.0, 0.0, 1.0], 10)
    return Measured(
        candidate=candidate,
        train=outcome(train, train),
        validation=outcome(validation, validation),
        time_ms=times_ms,
    )


def other(text: int, vision: int = 1) -> Candidate:
    return Candidate(top_k=2, kind=Kind.MODALITY, experts=ExpertCounts(text=(text,) * 2, vision=(vision,) * 2))


def compared(*others: Measured) -> list[Compared]:
    plain = measured(uniform(2, 2), train=100, validation=100, time_ms=100.0)
    return compare([plain, *others], seed=0)


def test_what_is_chosen_on_train_and_better_on_validation_is_adopted() -> None:
    plain, good, fair = compared(
        measured(other(5), train=140, validation=130), measured(other(4), train=120, validation=190)
    )
    assert (plain.is_chosen, good.is_chosen, fair.is_chosen) == (False, True, False)
    assert good.is_adopted
    assert not fair.is_adopted
    assert good.change.value == pytest.approx(0.15)
    assert 0 < good.change.low < 0.15 < good.change.high
    assert good.train_change.value == pytest.approx(0.2)
    assert adopted([plain, good, fair])[2].text == (5, 5)
    score = adopted([plain, good])[2].score
    assert score is not None
    assert score.accuracy_change == pytest.approx(0.15)
    assert (score.plain_ms, score.time_change_ms, score.time_high_ms) == pytest.approx((100.0, -1.0, -1.0))


def test_what_adds_more_than_a_hundredth_of_the_time_is_not_chosen() -> None:
    _, slow, quick = compared(
        measured(other(5), train=180, validation=180, time_ms=101.1),
        measured(other(4), train=120, validation=120, time_ms=100.9),
    )
    assert not slow.is_as_fast
    assert not slow.is_chosen
    assert quick.is_adopted


@pytest.mark.parametrize(("spread_ms", "is_as_fast"), [(0.0, True), (2.0, True), (8.0, False)])
def test_noisier_times_never_make_it_easier_to_be_as_fast(spread_ms: float, is_as_fast: bool) -> None:
    _, same = compared(measured(other(5), train=140, validation=130, time_ms=100.0, spread_ms=spread_ms))
    assert same.time_change_ms.value == pytest.approx(0.0)
    assert same.is_as_fast == is_as_fast
    assert same.is_adopted == is_as_fast


def test_what_is_not_shown_better_leaves_the_plain_number() -> None:
    found = compared(measured(other(5), train=140, validation=100))
    assert found[1].is_chosen
    assert not found[1].is_adopted
    entry = adopted(found)[2]
    assert (entry.text, entry.found_by, entry.score) == ((2, 2), "uniform", None)
    assert not any(each.is_chosen for each in compared(measured(other(5), train=100, validation=190)))


def test_more_levels_are_held_to_wider_intervals() -> None:
    one = compared(measured(other(5), train=140, validation=110))[1]
    plain = [measured(uniform(top_k, 2), train=100, validation=100) for top_k in range(2, 12)]
    others = [
        measured(
            Candidate(top_k=each.candidate.top_k, kind=Kind.MODALITY, experts=other(20).experts),
            train=140,
            validation=110,
        )
        for each in plain
    ]
    many = compare([*plain, *others], seed=0)[10]
    assert many.change.value == one.change.value
    assert many.change.low < one.change.low


def test_the_report_names_every_candidate() -> None:
    found = compared(
        measured(other(5), train=140, validation=130), measured(other(4), train=150, validation=190, time_ms=110)
    )
    table = levels_table(found, vision_share=0.75, subject="a model")
    assert [row[-1] for row in table.rows] == ["", "adopted", "not shown as fast"]
    assert table.rows[1][:5] == ("2", "by modality", "5x2", "1x2", "2.00")
    assert table.rows[1][5] == str(found[1].accuracy)
    assert found[1].accuracy.low < found[1].accuracy.value == pytest.approx(0.65)
    assert "is at most 1 % of the plain number's time" in table.caption
    assert table.caption.startswith("a model. ")
    content = levels_json(found, {}, vision_share=0.75)
    assert [each["is_adopted"] for each in content["candidates"]] == [False, True, False]
    figure = plot_levels(found, "a model")
    left, right = figure.axes
    assert [label.get_text() for label in right.get_yticklabels()] == ["2: text 5, vision 1", "2: text 4, vision 1"]
    assert left.get_xlabel() == "time of a request [ms]"
    assert len(left.lines) == 2
    plain_bars, _ = left.collections
    low, high = np.asarray(plain_bars.get_paths()[0].vertices)[:, 1].tolist()
    assert (low, high) == pytest.approx((found[0].accuracy.low, found[0].accuracy.high))
    plt.close(figure)


def test_an_outlier_stands_at_the_edge_and_does_not_squash_the_rest() -> None:
    close = [measured(other(text), train=140, validation=100 + text) for text in range(3, 9)]
    found = compared(*close, measured(other(9), train=20, validation=10))
    figure = plot_levels(found, "a model")
    left, right = figure.axes
    assert 0.3 < left.get_ylim()[0] < 0.5  # the outlier is right in 5 %, the others in 50 % and more
    assert right.get_xlim()[0] > -0.3
    assert [text.get_text() for text in left.texts] == ["2", "2: 0.050"]
    assert [text.get_text() for text in right.texts] == ["-0.450"]
    plt.close(figure)


def test_equal_numbers_in_all_blocks_are_no_range() -> None:
    by_block = Candidate(top_k=3, kind=Kind.LAYER_WEIGHTS, experts=ExpertCounts.uniform(2, 2))
    plain = measured(uniform(3, 2), train=100, validation=100, time_ms=100.0)
    figure = plot_levels(compare([plain, measured(by_block, train=100, validation=100)], seed=0), "a model")
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert labels == ["3: by block, from weights, 2"]
    plt.close(figure)
