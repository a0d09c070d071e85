"""Answering within a latency budget: one request at a time, everything timed, and what came of it."""
