"""The ground floor: Molmo, its knobs, and the networks that predict and control its latency. No Lightning here."""
