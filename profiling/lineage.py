"""Row layouts of older result files, rewritten to one plain row per run before the schema looks at them."""

from collections.abc import Mapping

from profiling.schema import LINEAGE_NAMES, ProfileError

_VISION_TOTAL = "T_vision_total"
_LIST_VALUED = {"active_blocks", LINEAGE_NAMES["active_blocks"]}


def plain_rows(row: Mapping[str, object]) -> list[dict[str, object]]:
    """Turn one row of a file into rows that the schema knows.

    A null is an absent field. ``T_vision_total`` stands for encoder and projector together when the row has no encoder
    time of its own. A row with lists of per-run values becomes one row per run, numbered by ``run_id``.

    Raises:
        ProfileError: If the layout contradicts itself; the message starts with the field.
    """
    present = {name: value for name, value in row.items() if value is not None}
    return _split_runs(_resolve_vision_total(present))


def _resolve_vision_total(row: dict[str, object]) -> dict[str, object]:
    if _VISION_TOTAL not in row:
        return row
    rest = {name: value for name, value in row.items() if name != _VISION_TOTAL}
    if "vision_encoder_ms" in row or "T_vision_encoder" in row:
        return rest
    if "projector_ms" in row or "T_projector" in row:
        raise ProfileError(f"{_VISION_TOTAL}: needs T_vision_encoder beside T_projector, which it would count twice")
    return {**rest, "vision_encoder_ms": row[_VISION_TOTAL]}


def _split_runs(row: dict[str, object]) -> list[dict[str, object]]:
    runs_by_name = {name: value for name, value in row.items() if isinstance(value, list) and name not in _LIST_VALUED}
    if not runs_by_name:
        return [row]
    first, *others = runs_by_name
    num_runs = len(runs_by_name[first])
    if num_runs == 0:
        raise ProfileError(f"{first}: a list of per-run values needs at least one value, got []")
    for name in others:
        if len(runs_by_name[name]) != num_runs:
            raise ProfileError(
                f"{name}: per-run lists of a row must be equally long, got {len(runs_by_name[name])} values "
                f"and {num_runs} in {first}"
            )
    if "run_id" in row and "run_id" not in runs_by_name:
        raise ProfileError(f"run_id: a row with per-run lists numbers its runs itself, got {row['run_id']!r}")
    numbered = {"run_id": list(range(num_runs)), **runs_by_name}
    shared = {name: value for name, value in row.items() if name not in numbered}
    # A null inside a list is an absent value of that run.
    return [
        shared | {name: values[i] for name, values in numbered.items() if values[i] is not None}
        for i in range(num_runs)
    ]
