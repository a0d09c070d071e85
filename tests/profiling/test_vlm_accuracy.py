from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib import pyplot as plt

import main
from models.knobs import spread_grid
from profiling.files import write_json
from profiling.schema import Environment
from profiling.vlm_accuracy import Accuracy, AccuracyError, AccuracyReport, KindAccuracy
from profiling.vlm_accuracy_figure import draw_accuracy, setting_means

GRID = spread_grid(4, top_k=(1, 2), block_counts=(2, 4))
FULL = GRID.setting(tier="high", top_k=2, num_active_blocks=4)
FAMILIES = {"scenes": 0.0, "text": 0.2}  # what each loses everywhere


def report(model: str = "models/tiny", **changes: Any) -> AccuracyReport:
    """Accuracy rises by 0.1 with the tier, by 0.1 with top_k and by 0.05 with each block."""
    tiers = [tier.name for tier in GRID.tiers]
    rows = [
        Accuracy.of(
            family,
            setting,
            [0.3 + 0.1 * tiers.index(setting.tier) + 0.1 * setting.top_k + 0.05 * setting.num_active_blocks - loss]
            * 50,
        )
        for family, loss in FAMILIES.items()
        for setting in GRID.settings()
    ]
    rows += [Accuracy.of(f, FULL, [0.25], baseline=kind) for f in FAMILIES for kind in ("blind", "majority")]
    content: dict[str, Any] = {
        "environment": Environment(device="A chip", dtype="float32", model=model),
        "split": "test",
        "seed": 1,
        "rows": tuple(rows),
        "kinds": (KindAccuracy(family="text", kind="sign", difficulty="hard", accuracy=0.125, num_samples=8),),
    }
    return AccuracyReport(**{**content, **changes})


def test_a_report_comes_back_from_its_file_and_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    write_json(tmp_path / "accuracy.json", report().model_dump(mode="json"))
    assert AccuracyReport.read(tmp_path / "accuracy.json") == report()
    broken = report().model_dump(mode="json")
    broken["rows"][3]["accuracy"] = 1.5
    write_json(tmp_path / "broken.json", broken)
    with pytest.raises(AccuracyError, match=r"broken\.json: rows\.3\.accuracy: .*less than or equal to 1"):
        AccuracyReport.read(tmp_path / "broken.json")


def test_tables_hold_families_by_knob_means_by_setting_and_kinds() -> None:
    text = report().markdown(GRID, FULL)
    # Full: 0.3 + 0.2 + 0.2 + 0.2; low tier 0.2 less, top_k 1 0.1 less, 2 blocks 0.1 less.
    assert "| scenes | 50 | 0.900 | 0.700 | 0.800 | 0.800 | 0.250 | 0.250 |" in text
    assert "| text | 50 | 0.700 | 0.500 | 0.600 | 0.600 | 0.250 | 0.250 |" in text
    assert "| medium | 1 | 0.500 | 0.600 |" in text
    assert "| text | sign | hard | 8 | 0.125 |" in text


def test_settings_are_averaged_over_families_and_baselines_left_out() -> None:
    means = setting_means(report()).set_index(["tier", "top_k", "num_active_blocks"])
    assert len(means) == 12
    assert means.loc[("high", 2, 4), "accuracy"] == pytest.approx(0.8)
    half_width = 1.96 * ((0.9 * 0.1 + 0.7 * 0.3) / 50) ** 0.5 / 2
    assert means.loc[("high", 2, 4), "half_width"] == pytest.approx(half_width)


def test_a_setting_that_a_family_lacks_is_no_mean() -> None:
    short = report(rows=report().rows[1:])
    assert len(setting_means(short)) == 11


def test_the_lowest_tier_stands_left_and_each_line_is_a_top_k_of_a_snapshot() -> None:
    means = setting_means(report())
    figure = draw_accuracy(pd.concat([means.assign(model="a"), means.assign(model="b")]), caption="two")
    panels = figure.axes
    plt.close(figure)
    assert [axes.get_title() for axes in panels] == ["low tier", "medium tier", "high tier"]
    assert all(len(axes.containers) == 4 for axes in panels)
    line = panels[2].lines[0]
    assert list(line.get_ydata()) == pytest.approx([0.6, 0.7])  # type: ignore[arg-type]
    assert {line.get_linestyle() for line in panels[0].lines} >= {"-", "--"}


def test_two_snapshots_are_drawn_and_the_same_one_twice_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_json(tmp_path / f"{name}.json", report(model=f"models/{name}").model_dump(mode="json"))
    main.cli_main(["plot-accuracy", "--reports", f"[{tmp_path}/a.json, {tmp_path}/b.json]", "--output", "out/both.png"])
    assert Path("out/both.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match=r"a\.json is of a, and so is one before it"):
        main.cli_main(["plot-accuracy", "--reports", f"[{tmp_path}/a.json, {tmp_path}/a.json]", "--output", "x.png"])


def test_snapshots_that_answered_other_datasets_are_not_compared(tmp_path: Path) -> None:
    other = report(model="b", rows=tuple(row for row in report().rows if row.family == "text"))
    for name, content in (("a", report()), ("b", other)):
        write_json(tmp_path / f"{name}.json", content.model_dump(mode="json"))
    with pytest.raises(ValueError, match=r"tiny answered \['scenes', 'text'\], b answered \['text'\]"):
        main.cli_main(["plot-accuracy", "--reports", f"[{tmp_path}/a.json, {tmp_path}/b.json]", "--output", "x.png"])
