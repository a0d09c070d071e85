"""One recipe per trained thing."""

from lightning_modules.latency_estimator import LatencyEstimatorModule

__all__ = ["LatencyEstimatorModule"]
