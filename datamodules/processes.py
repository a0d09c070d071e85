"""Which of several processes this one is."""

from torch import distributed


def rank_and_world() -> tuple[int, int]:
    """Return this process's rank and how many there are: 0 and 1 where nothing is distributed."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
