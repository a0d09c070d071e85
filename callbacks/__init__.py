"""Observers of the Trainer."""
