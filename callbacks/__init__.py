"""Observers of the Trainer."""

from callbacks.estimator_report import EstimatorReport

__all__ = ["EstimatorReport"]
