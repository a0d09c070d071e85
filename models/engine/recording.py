"""Calls whose kernels are recorded once and then launched all at once."""

from collections.abc import Callable

import torch
from torch import Tensor

from models.engine.fused_vision import FusedVision
from models.vision import VisionEncoder

Call = Callable[[], None]
Record = Callable[[Call], Call]


class CudaGraphs:
    """Record calls as CUDA graphs that share one pool of memory: they must not run at the same time.

    Args:
        device: Where the calls run.
    """

    def __init__(self, device: torch.device) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._warm_up = torch.cuda.Stream(device)
        # Only recordings use this stream. So what the library keeps for a stream, its workspace for matrix products, is
        # allocated in the pool: elsewhere it could be freed, as torch.compile does, while recorded kernels point to it.
        self._capture = torch.cuda.Stream(device, priority=-1)
        self._first: torch.cuda.CUDAGraph | None = None

    def __call__(self, call: Call) -> Call:
        """Run a call once, so that its kernels are compiled and loaded, and record it; return its replay."""
        # Without ``torch.cuda.graph``, which collects garbage each time: thousands of blocks are recorded.
        self._warm_up.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._warm_up):
            call()
        graph = torch.cuda.CUDAGraph()
        self._capture.wait_stream(self._warm_up)
        with torch.cuda.stream(self._capture):
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                call()
            finally:
                graph.capture_end()
        torch.cuda.current_stream().wait_stream(self._capture)
        self._first = self._first or graph  # a pool without graphs is given up, and then nothing can be recorded
        replay: Call = graph.replay
        return replay


class RecordedVision:
    """The vision encoder, recorded for each number of crops when it is first met.

    Args:
        encoder: Holds the weights.
        record: Turns a call into its replay.
    """

    def __init__(self, encoder: VisionEncoder, record: Record) -> None:
        self._encode = FusedVision(encoder)
        self._dtype = encoder.patch_embedding.weight.dtype
        self._record = record
        self._recorded: dict[int, _Encoding] = {}

    def __call__(self, crops_NPD: Tensor) -> Tensor:
        """Encode crops as ``VisionEncoder`` does, into memory that the next call overwrites."""
        num_crops = len(crops_NPD)
        if num_crops not in self._recorded:
            with torch.inference_mode(mode=False):  # or this memory could not be written outside of it later
                crops = torch.zeros(crops_NPD.shape, dtype=self._dtype, device=crops_NPD.device)
            self._recorded[num_crops] = _Encoding(self._encode, crops, self._record)
        return self._recorded[num_crops](crops_NPD)


class _Encoding:
    """A recorded call on one tensor, whose address stays as recorded."""

    def __init__(self, encode: Callable[[Tensor], Tensor], crops_NPD: Tensor, record: Record) -> None:
        self._encode = encode
        self._crops = crops_NPD
        self._replay = record(self._run)

    @torch.inference_mode()  # also where an engine is warmed up outside of it: a recording has no gradients
    def _run(self) -> None:
        self._features = self._encode(self._crops)

    def __call__(self, crops_NPD: Tensor) -> Tensor:
        self._crops.copy_(crops_NPD)
        self._replay()
        return self._features
