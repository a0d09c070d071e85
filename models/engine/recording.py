"""Calls whose kernels are recorded once and then launched all at once."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models.engine.fused_vision import FusedVision
from models.molmo import Molmo, VisionModules

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
    """What turns crops into vision tokens, fused and recorded; see ``RecordedByCrops``.

    Args:
        model: Holds the weights.
        record: Turns a call into its replay.
    """

    def __init__(self, model: Molmo, record: Record) -> None:
        self._config = model.config
        self._weight = model.vision_encoder.patch_embedding.weight
        dtype = self._weight.dtype
        self._vision_encoder = RecordedByCrops(FusedVision(model.vision_encoder), record, [dtype])
        self._connector = RecordedByCrops(model.connector, record, [dtype, torch.float32])
        self.modules = VisionModules(self._vision_encoder, self._connector)

    def warm_up(self) -> None:
        """Record every number of crops that the released model cuts an image into, the overview alone among them."""
        config, zeros = self._config, self._weight.new_zeros
        for num_crops in range(1 + config.max_crops, 0, -1):  # so that the memory of the most serves all
            self._vision_encoder.recorded(zeros(num_crops, config.num_patches, config.patch_dim))
            self._connector.recorded(
                zeros(num_crops, config.num_patches, config.feature_dim), zeros(num_crops, config.num_patches)
            )


class RecordedByCrops:
    """A call on tensors of crops, recorded for each number of crops when it is first met.

    Args:
        call: What to record: ``(crops, ...)`` tensors to one such tensor.
        record: Turns a call into its replay.
        dtypes: Types to take the inputs in.
    """

    def __init__(self, call: Callable[..., Tensor], record: Record, dtypes: Sequence[torch.dtype]) -> None:
        self._call = call
        self._record = record
        self._dtypes = dtypes
        self._recorded: dict[int, RecordedCall] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Do as the call does, into memory that the next one overwrites."""
        return self.recorded(*inputs)(*inputs)

    def recorded(self, *inputs: Tensor) -> "RecordedCall":
        """Return the recording for so many crops, made now if there is none."""
        num_crops = len(inputs[0])
        if num_crops not in self._recorded:
            with torch.inference_mode(mode=False):  # or this memory could not be written outside of it later
                memory = [torch.zeros_like(x, dtype=dtype) for x, dtype in zip(inputs, self._dtypes, strict=True)]
            self._recorded[num_crops] = RecordedCall(self._call, memory, self._record)
        return self._recorded[num_crops]


class RecordedCall:
    """A recorded call on tensors whose addresses stay as recorded.

    Args:
        call: What to record: tensors to a tensor.
        inputs: The memory that inputs are copied to.
        record: Turns a call into its replay.
    """

    def __init__(self, call: Callable[..., Tensor], inputs: Sequence[Tensor], record: Record) -> None:
        self._call = call
        self._inputs = inputs
        self._replay = record(self._run)

    @torch.inference_mode()  # also where an engine is warmed up outside of it: a recording has no gradients
    def _run(self) -> None:
        self._output = self._call(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Do as the call does, into memory that the next one overwrites."""
        for memory, x in zip(self._inputs, inputs, strict=True):
            memory.copy_(x)
        self._replay()
        return self._output
