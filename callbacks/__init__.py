"""Observers of the Trainer."""

from callbacks.component_latency import ComponentLatency
from callbacks.estimator_report import EstimatorReport

__all__ = ["ComponentLatency", "EstimatorReport"]
