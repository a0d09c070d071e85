"""The engine under the knobs: one token after another for one request, near what the memory's speed allows."""

from models.engine.base import BegunPrefill, Engine, EngineName, EngineRequest
from models.engine.choice import make_engine, why_no_graph
from models.engine.eager import EagerEngine

__all__ = ["BegunPrefill", "EagerEngine", "Engine", "EngineName", "EngineRequest", "make_engine", "why_no_graph"]
