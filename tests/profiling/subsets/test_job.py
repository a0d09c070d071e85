from profiling.subsets.job import NO_COST, Cost


def test_costs_add_up_and_the_most_memory_is_that_of_the_dearest() -> None:
    light = Cost(forward_passes=3, backward_passes=1, seconds=0.25, peak_memory_mib=10.0)
    heavy = Cost(forward_passes=1, backward_passes=0, seconds=0.5, peak_memory_mib=40.0)
    expected = Cost(forward_passes=4, backward_passes=1, seconds=0.75, peak_memory_mib=40.0)
    assert sum((heavy, light), NO_COST) == expected
