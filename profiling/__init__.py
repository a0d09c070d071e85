"""Measuring and what is known from measuring: record schema, clock, statistics, profiler, plots. No Lightning here."""
