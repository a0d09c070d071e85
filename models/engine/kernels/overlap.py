"""Starting a kernel before the one before it has ended: programmatic dependent launch, of compute capability 9.0 on.

Every kernel of a chain waits for the previous one before it writes, so nothing is overwritten that an earlier kernel
still reads. Before it waits it may read what no kernel writes, such as weights. Where the previous kernel lets it start
only after having waited itself, it may also read what was written before that one; past L1, which may be older.
Source: CUDA C++ Programming Guide, "Programmatic Dependent Launch and Synchronization".
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
