"""What a proof says in the end: plain values for the JSON file, what failed, and tables for people."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from models.knobs import KnobSetting
from profiling.bench.proof_parity import STOCK, Deviation
from profiling.bench.proof_soak import Soak
from profiling.bench.proof_warm_up import Switches, WarmUp
from profiling.bench.report import TextTable, where_lines
from profiling.statistics import summarize

SCHEMA_VERSION: Final = 1
_STAGES: Final = ("prefill", "decode")
_LEGEND: Final = (
    "error: norm of the difference of the logits from the float32 reference's, over the norm of the reference's. "
    "agree: greedy tokens that are the reference's, prefill and decode together."
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a proof must keep to.

    Args:
        warm_up_s: Seconds to warm up all settings.
        switch_ms: Milliseconds that switching adds to a first step, at the median and at the 95th percentile.
        relative_error: Of any of our logits from the reference's.
        times_stock: Our median and largest error over those of transformers; not of a float32 model, whose reference
            is the model itself.
        device_growth_mib: Growth of the memory allocated on the device, once settled.
        reserved_growth_mib: Growth of the memory that torch reserves there, once settled.
        host_growth_mib: Growth of the process's resident memory, once settled.

    Raises:
        ValueError: If one is not above 0.
    """

    warm_up_s: float = 60.0
    switch_ms: float = 0.1
    relative_error: float = 0.2
    times_stock: float = 2.0
    device_growth_mib: float = 1.0
    reserved_growth_mib: float = 64.0
    host_growth_mib: float = 64.0

    def __post_init__(self) -> None:
        for name, limit in asdict(self).items():
            if not limit > 0:
                raise ValueError(f"limits.{name}: must be above 0, got {limit}")


def warm_up_content(warm_ups: Mapping[str, WarmUp]) -> dict[str, Any]:
    """Put warm-ups into plain values."""
    return {name: asdict(warm_up) for name, warm_up in warm_ups.items()}


def switch_content(switches: Switches) -> dict[str, Any]:
    """Put switches into plain values; what they cost is the difference of percentiles, in which noise cancels."""
    switched, same = summarize(switches.switched_ms), summarize(switches.same_ms)
    return {
        "cost_p50_ms": switched.p50 - same.p50,
        "cost_p95_ms": switched.p95 - same.p95,
        "same_p50_ms": same.p50,
        "same_p95_ms": same.p95,
        **asdict(switches),
    }


def parity_content(compared: Mapping[KnobSetting, Mapping[str, Deviation]]) -> list[dict[str, Any]]:
    """Put deviations into plain values, a dictionary for each setting; an error that is no number is null."""
    return [
        {
            "top_k": setting.top_k,
            "num_active_blocks": setting.num_active_blocks,
            "contestants": {
                name: {
                    "prefill_errors": [_finite(error) for error in deviation.prefill_errors],
                    "decode_errors": [_finite(error) for error in deviation.decode_errors],
                    "num_agreeing": deviation.num_agreeing,
                    "num_tokens": deviation.num_tokens,
                }
                for name, deviation in deviations.items()
            },
        }
        for setting, deviations in compared.items()
    ]


def _finite(error: float) -> float | None:
    return error if math.isfinite(error) else None


def soak_content(soak: Soak, num_settled: int) -> dict[str, Any]:
    """Put a soak into plain values; growth is from the first settled reading to the largest of those after it."""
    settled = [asdict(reading) for reading in soak.readings if reading.after >= num_settled]
    growth = {
        name.replace("_mib", "_growth_mib"): None
        if settled[0][name] is None
        else max(reading[name] for reading in settled) - settled[0][name]
        for name in ("allocated_mib", "reserved_mib", "host_mib")
    }
    return {**asdict(soak), **growth}


def failures(content: Mapping[str, Any], limits: Limits) -> list[str]:
    """Say what does not keep to the limits, part by part; nothing if all does."""
    return [
        *_warm_up_failures(content, limits),
        *_parity_failures(content["parity"], limits),
        *([] if content["environment"]["dtype"] == "float32" else _stock_failures(content["parity"], limits)),
        *_soak_failures(content["soak"], limits),
    ]


def _warm_up_failures(content: Mapping[str, Any], limits: Limits) -> Iterator[str]:
    for name, warm_up in content["warm_up"].items():
        if warm_up["seconds"] > limits.warm_up_s:
            yield f"warm-up, {name}: took {warm_up['seconds']:.1f} s, limit {limits.warm_up_s:g} s"
    for name in ("p50", "p95"):
        cost_ms = content["switching"][f"cost_{name}_ms"]
        if cost_ms > limits.switch_ms:
            yield f"switching: costs {cost_ms:.3f} ms at the {name}, limit {limits.switch_ms:g} ms"


def _parity_failures(rows: Sequence[Mapping[str, Any]], limits: Limits) -> Iterator[str]:
    for row in rows:
        for name in _ours(rows):
            for stage in _STAGES:
                error = _largest(row["contestants"][name][f"{stage}_errors"])
                if not error <= limits.relative_error:
                    where = f"{name}, {stage}, top_k {row['top_k']}, {row['num_active_blocks']} blocks"
                    yield f"parity, {where}: relative error {error:.1e}, limit {limits.relative_error:g}"


def _stock_failures(rows: Sequence[Mapping[str, Any]], limits: Limits) -> Iterator[str]:
    if STOCK not in rows[0]["contestants"]:
        return
    for name in _ours(rows):
        for stage in _STAGES:
            for kind, figure in _FIGURES.items():
                ours, stock = (figure(_pooled(rows, each, stage)) for each in (name, STOCK))
                if not ours <= limits.times_stock * stock:
                    yield (
                        f"parity, {name}, {stage}: {kind} error {ours:.1e}, transformers' is {stock:.1e}, "
                        f"limit {limits.times_stock:g} times that"
                    )


def _soak_failures(soak: Mapping[str, Any], limits: Limits) -> Iterator[str]:
    bounds = {
        "allocated": limits.device_growth_mib,
        "reserved": limits.reserved_growth_mib,
        "host": limits.host_growth_mib,
    }
    for name, limit in bounds.items():
        growth = soak[f"{name}_growth_mib"]
        if growth is not None and growth > limit:
            yield f"soak: {name} memory grew by {growth:.1f} MiB once settled, limit {limit:g} MiB"
    for when, is_same in soak["same_answers"].items():
        if not is_same:
            yield f"soak: the probe's answer {when} is not bit for bit its first one"


def _ours(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for name in rows[0]["contestants"] if name != STOCK]


def _pooled(rows: Sequence[Mapping[str, Any]], name: str, stage: str) -> list[float | None]:
    return [error for row in rows for error in row["contestants"][name][f"{stage}_errors"]]


def _numbers(errors: Sequence[float | None]) -> list[float]:
    return [math.inf if error is None else error for error in errors]


def _largest(errors: Sequence[float | None]) -> float:
    return max(_numbers(errors))


def _middle(errors: Sequence[float | None]) -> float:
    return median(_numbers(errors))


_FIGURES: Final[dict[str, Callable[[Sequence[float | None]], float]]] = {"median": _middle, "largest": _largest}


def warm_up_table(content: Mapping[str, Any]) -> TextTable:
    """Return the table of warm-ups."""
    num_settings = len(content["parity"])
    rows = [
        [name, f"{warm_up['seconds']:.1f}", *(_or_dash(warm_up[key]) for key in ("allocated_mib", "device_mib"))]
        for name, warm_up in content["warm_up"].items()
    ]
    headings = ["kernel cache", "seconds", "allocated MiB", "device MiB"]
    return TextTable(title=f"Warm-up of {num_settings} settings", headings=headings, rows=rows)


def parity_summary(content: Mapping[str, Any]) -> TextTable:
    """Return the table of errors over all settings: a row for each stage, of columns for each contestant."""
    rows = content["parity"]
    names = list(rows[0]["contestants"])
    lines = []
    for stage in _STAGES:
        figures = [f"{figure(_pooled(rows, name, stage)):.1e}" for name in names for figure in _FIGURES.values()]
        lines.append([stage, str(len(_pooled(rows, names[0], stage))), *figures])
    headings = ["stage", "n", *(f"{name} {kind}" for name in names for kind in _FIGURES)]
    return TextTable(title="Relative error of the logits, all settings", headings=headings, rows=lines)


def agreement_line(content: Mapping[str, Any]) -> str:
    """Say how many greedy tokens are the reference's, over all settings."""
    rows = content["parity"]
    counts = []
    for name in rows[0]["contestants"]:
        agreeing, total = (sum(row["contestants"][name][key] for row in rows) for key in ("num_agreeing", "num_tokens"))
        counts.append(f"{name} {agreeing} of {total}")
    return f"Greedy tokens that are the float32 reference's: {', '.join(counts)}."


def parity_table(content: Mapping[str, Any]) -> TextTable:
    """Return the table of errors setting by setting."""
    names = list(content["parity"][0]["contestants"])
    lines = []
    for row in content["parity"]:
        entries = [
            entry
            for name in names
            for entry in (
                *(
                    f"{figure(row['contestants'][name][f'{stage}_errors']):.1e}"
                    for stage in _STAGES
                    for figure in _FIGURES.values()
                ),
                f"{row['contestants'][name]['num_agreeing']}/{row['contestants'][name]['num_tokens']}",
            )
        ]
        lines.append([str(row["top_k"]), str(row["num_active_blocks"]), *entries])
    columns = [*(f"{stage} {kind}" for stage in _STAGES for kind in _FIGURES), "agree"]
    headings = ["top_k", "blocks", *(f"{name} {column}" for name in names for column in columns)]
    return TextTable(title="Relative error of the logits, every setting", headings=headings, rows=lines)


def soak_table(content: Mapping[str, Any]) -> TextTable:
    """Return the table of memory readings."""
    keys = ("allocated_mib", "reserved_mib", "host_mib")
    soak = content["soak"]
    rows = [[str(reading["after"]), *(_or_dash(reading[key]) for key in keys)] for reading in soak["readings"]]
    rows.append(["growth", *(_or_dash(soak[key.replace("_mib", "_growth_mib")]) for key in keys)])
    headings = ["after requests", "allocated MiB", "reserved MiB", "host MiB"]
    return TextTable(title="Soak: memory while no request runs", headings=headings, rows=rows)


def _or_dash(number: float | None) -> str:
    return "-" if number is None else f"{number:,.1f}"


def proof_lines(content: Mapping[str, Any]) -> list[str]:
    """Say what was proven of which engine, without the tables."""
    switching, soak = content["switching"], content["soak"]
    answers = [f"{when} {'yes' if is_same else 'NO'}" for when, is_same in soak["same_answers"].items()]
    verdict = [f"FAILED: {failure}." for failure in content["failures"]] or ["Everything keeps to the limits."]
    return [
        *engine_lines(content),
        f"Switching between settings adds {switching['cost_p50_ms']:+.3f} ms at the p50 and "
        f"{switching['cost_p95_ms']:+.3f} ms at the p95 to a first step of {switching['same_p50_ms']:.3f} ms "
        f"(p50 of {len(switching['same_ms'])}, opening the request included).",
        agreement_line(content),
        f"Soak: {soak['readings'][-1]['after']} requests, {soak['num_broken']} broken off by an error, "
        f"{soak['num_in_threads']} in threads; the probe's answer is bit for bit its first one: {', '.join(answers)}.",
        *verdict,
    ]


def engine_lines(content: Mapping[str, Any]) -> list[str]:
    """Say which engine ran and, if that is not the graph engine, that nothing is said of that one."""
    why_no_graph = content["why_no_graph"]
    name = content["environment"]["engine"]
    if name == "graph":
        return ["Engine: graph."]
    reason = "it was not asked for" if why_no_graph is None else f"it needs {why_no_graph}"
    return [f"Engine: {name}. The graph engine did not run ({reason}): nothing here says anything of it."]


def proof_markdown(content: Mapping[str, Any]) -> str:
    """Return the report as a Markdown page."""
    tables = [*summary_tables(content), parity_table(content)]
    parts = [
        "# Proof of the engine\n",
        *(f"{line}\n" for line in where_lines(content["environment"])),
        "".join(f"- {line}\n" for line in proof_lines(content)),
        f"{_LEGEND}\n",
        *(table.markdown() for table in tables),
    ]
    return "\n".join(parts)


def summary_tables(content: Mapping[str, Any]) -> list[TextTable]:
    """Return the tables that are printed, too."""
    return [warm_up_table(content), parity_summary(content), soak_table(content)]
