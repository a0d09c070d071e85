"""The scores that there are, and what scoring one answer gives."""

from dataclasses import dataclass
from enum import StrEnum


class ScoreName(StrEnum):
    """How an answer is scored. Values under different names are not comparable.

    * ``vqa_official``, ``vqa_molmo``: VQA soft accuracy, by the official rule and by Molmo's shorter one.
    * ``anls``: closeness in letters to the closest answer.
    * ``exact_match``, ``exact_match_number_words``: equality but for case; the latter takes ``three`` for ``3``.
    * ``multiple_choice``, ``multiple_choice_nearest``: the option named by its text or letter; the latter guesses the
      nearest one, as Molmo's evaluation does, where none is named, so that nonsense scores like chance.
    * ``mmmu``: an option's letter or an open answer found in free text.
    * ``cider_d``: agreement of a caption with what people wrote, 0 to 10.
    """

    VQA_OFFICIAL = "vqa_official"
    VQA_MOLMO = "vqa_molmo"
    ANLS = "anls"
    EXACT_MATCH = "exact_match"
    EXACT_MATCH_NUMBER_WORDS = "exact_match_number_words"
    MULTIPLE_CHOICE = "multiple_choice"
    MULTIPLE_CHOICE_NEAREST = "multiple_choice_nearest"
    MMMU = "mmmu"
    CIDER_D = "cider_d"

    @property
    def is_fraction(self) -> bool:
        """Whether values lie in 0 to 1, so that a mean over datasets may hold them; CIDEr-D goes up to 10."""
        return self is not ScoreName.CIDER_D


@dataclass(frozen=True, kw_only=True)
class Score:
    """What one answer scored.

    Args:
        name: The score.
        value: 0 to 1, or 0 to 10 for CIDEr-D.
        is_parsed: Whether the answer had the form asked for: an option, a number. Where any text will do it always has.
    """

    name: ScoreName
    value: float
    is_parsed: bool = True
