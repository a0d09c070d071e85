import numpy as np

from profiling.answer_grid.asking import answer_lengths


def test_an_answer_is_as_long_as_up_to_its_end_or_as_far_as_it_went() -> None:
    ids_BN = np.asarray([[5, 9, 9, 9], [9, 9, 9, 9], [1, 2, 3, 4], [1, 2, 3, 9]])
    assert answer_lengths(ids_BN, end_id=9).tolist() == [2, 1, 4, 4]
