"""Starting a kernel before the one before it has ended: programmatic dependent launch, of compute capability 9.0 on.

A kernel lets the next one start as soon as its own reads are under way, and the next one reads its weights, which
nobody writes, before it waits. Every kernel of a chain waits, so what a kernel waits for has itself waited: nothing is
overwritten that an earlier kernel still reads. Source: CUDA C++ Programming Guide, "Programmatic Dependent Launch".
"""

import triton
import triton.language as tl
from triton.language.extra import cuda


@triton.jit
def let_next_start(PDL: tl.constexpr):
    """Let the next kernel's programs take what room there is."""
    if PDL:
        cuda.gdc_launch_dependents()


@triton.jit
def wait_for_previous(PDL: tl.constexpr):
    """Wait until the previous kernel has ended and all that it wrote can be read."""
    if PDL:
        cuda.gdc_wait()
