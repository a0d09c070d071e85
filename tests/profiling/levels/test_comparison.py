import matplotlib.pyplot as plt
import numpy as np
import pytest

from models.knobs import ExpertCounts
from profiling.levels.candidates import Candidate, Kind, uniform
from profiling.levels.comparison import Compared, Measured, adopted, compare
from profiling.levels.report import levels_json, levels_table, plot_levels
from profiling.subsets.job import NO_COST, Outcome

NUM_SAMPLES = 200


def outcome(*num_right: int) -> Outcome:
    """Answers on datasets of which so many are right, the first ones."""
    places = np.arange(NUM_SAMPLES)
    values = {str(name): {"accuracy": (places < right).astype(float)} for name, right in enumerate(num_right)}
    return Outcome(values=values, cost=NO_COST)


def measured(candidate: Candidate, *, train: int, validation: int, time_ms: float = 10.0) -> Measured:
    times_ms = time_ms + np.asarray([0.0, 1.0, 2.0])
    return Measured(
        candidate=candidate,
        train=outcome(train, train),
        validation=outcome(validation, validation),
        time_ms=times_ms,
    )


def other(text: int, vision: int = 1) -> Candidate:
    return Candidate(top_k=2, kind=Kind.MODALITY, experts=ExpertCounts(text=(text,) * 2, vision=(vision,) * 2))


def compared(*others: Measured, noise_ms: float = 0.5) -> list[Compared]:
    plain = measured(uniform(2, 2), train=100, validation=100)
    return compare([plain, *others], {2: plain.time_ms + noise_ms}, seed=0)


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
    assert score.noise_ms == pytest.approx(0.5)


def test_what_takes_longer_than_noise_explains_is_not_chosen() -> None:
    _, slow, quick = compared(
        measured(other(5), train=180, validation=180, time_ms=10.6),
        measured(other(4), train=120, validation=120, time_ms=10.4),
    )
    assert not slow.is_as_fast
    assert not slow.is_chosen
    assert quick.is_adopted


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
    many = compare([*plain, *others], {each.candidate.top_k: each.time_ms for each in plain}, seed=0)[10]
    assert many.change.value == one.change.value
    assert many.change.low < one.change.low


def test_the_report_names_every_candidate() -> None:
    found = compared(
        measured(other(5), train=140, validation=130), measured(other(4), train=150, validation=190, time_ms=99)
    )
    table = levels_table(found, vision_share=0.75, subject="a model")
    assert [row[-1] for row in table.rows] == ["", "adopted", "slower"]
    assert table.rows[1][:6] == ("2", "by modality", "5x2", "1x2", "2.00", "0.650")
    assert table.caption.startswith("a model. ")
    content = levels_json(found, {}, vision_share=0.75)
    assert [each["is_adopted"] for each in content["candidates"]] == [False, True, False]
    figure = plot_levels(found, "a model")
    left, right = figure.axes
    assert [label.get_text() for label in right.get_yticklabels()] == ["2: text 5, vision 1", "2: text 4, vision 1"]
    assert left.get_xlabel() == "time of a request [ms]"
    assert len(left.lines) == 2
    plt.close(figure)
