"""Observers of the Trainer."""

from callbacks.answer_table import AnswerTable
from callbacks.component_latency import ComponentLatency
from callbacks.controller_report import ControllerReport
from callbacks.estimator_report import EstimatorReport

__all__ = ["AnswerTable", "ComponentLatency", "ControllerReport", "EstimatorReport"]
