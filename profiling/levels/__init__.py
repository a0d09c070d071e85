"""What the levels of top_k may mean: other numbers of experts by block and for vision tokens, at equal mean cost."""
