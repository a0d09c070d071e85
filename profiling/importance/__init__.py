"""How much each block matters: seven scores on the same samples, and whether they agree over data."""
