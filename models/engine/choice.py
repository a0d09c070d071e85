"""Choose an engine by its name."""

import logging
from importlib.util import find_spec

from models.engine.base import Engine, EngineName
from models.engine.eager import EagerEngine
from models.engine.support import unsupported
from models.molmo import Molmo

_log = logging.getLogger(__name__)


def make_engine(name: EngineName, model: Molmo, *, capacity: int = 4096) -> Engine:
    """Make the engine of a model; where it cannot run, the log says why and the eager one takes its place.

    Args:
        name: Which engine.
        model: The model, on its device.
        capacity: Most tokens of a request that the graph engine has room for.
    """
    if name == "eager":
        return EagerEngine(model)
    if name == "compiled":
        return _compiled(model)
    reason = why_no_graph(model)
    if reason is not None:
        _log.warning("engine: graph needs %s, eager takes its place", reason)
        return EagerEngine(model)
    from models.engine.graph import GraphEngine  # noqa: PLC0415 (needs Triton)

    return GraphEngine(model, capacity=capacity)


def _compiled(model: Molmo) -> Engine:
    """Make the compiled engine if it can compile the model here; that takes some seconds."""
    from models.engine.compiled import CompiledEngine  # noqa: PLC0415 (importing the compiler takes a second)

    engine = CompiledEngine(model)
    reason = engine.why_not()
    if reason is None:
        return engine
    _log.warning("engine: compiled cannot compile here (%s), eager takes its place", reason)
    return EagerEngine(model)


def why_no_graph(model: Molmo) -> str | None:
    """Say what the graph engine lacks for a model on its device; ``None`` if nothing."""
    device = model.language_model.head.weight.device
    if device.type != "cuda":
        return f"a CUDA device, got {device.type}"
    if find_spec("triton") is None:
        return "Triton"
    reason = unsupported(model.config)
    return None if reason is None else f"a model without {reason}"
