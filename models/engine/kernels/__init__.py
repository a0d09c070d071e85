"""Triton kernels of one decode step of a MolmoE block: one request, one token.

A step is bound by reading weights, so each kernel gives a few rows of a weight matrix to a program, which reads them
once, and whatever is small (the token's activations, the router's choice) is computed again by every program that needs
it instead of in a kernel of its own. Activations are float32; weights and cache have the model's type.
"""

# Shapes in these files: D = width of the model, N = rows of a matrix, H = heads, HALF = half the width of a head,
# C = capacity of the cache, S = splits of the context, E = experts, F = hidden width of an expert, K = experts per
# token, V = vocabulary. A suffix _P marks the next power of two, which Triton's ranges need.
