import pytest

from models.engine import EagerEngine, make_engine
from tests.small_models import golden_model


def test_the_eager_engine_is_made_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert make_engine("eager", golden_model("moe")).name == "eager"
    assert not caplog.messages


def test_without_a_gpu_the_eager_engine_takes_the_place_of_the_graphs(caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine("graph", golden_model("moe"))
    assert isinstance(engine, EagerEngine)
    assert caplog.messages == ["engine: graph needs a CUDA device, got cpu, eager takes its place"]
