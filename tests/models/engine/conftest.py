"""Kernels need Triton, which is to be had for Linux only."""

from importlib.util import find_spec

collect_ignore_glob = ["test_fused_*.py", "test_graph.py", "test_kernels.py"] if find_spec("triton") is None else []
