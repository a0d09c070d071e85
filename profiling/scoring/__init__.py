"""How right an answer is: the scores of the visual question answering datasets, under names that are not mixed up."""

from profiling.scoring.cider import HIGHEST_CIDER, ReferenceCorpus
from profiling.scoring.counts import parse_count
from profiling.scoring.result import Score, ScoreName
from profiling.scoring.scorer import Scorer, score

__all__ = ["HIGHEST_CIDER", "ReferenceCorpus", "Score", "ScoreName", "Scorer", "parse_count", "score"]
