"""Which blocks to leave out: searches over subsets, and the block table that they end in."""
