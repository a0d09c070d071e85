"""The engine under the knobs: one token after another for one request, near what the memory's speed allows."""
