"""The contractions that the VQA evaluation spells out: which misspelling becomes which word."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

_SPELLINGS: Final = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""


def _one_apostrophe_less(spelling: str) -> Iterator[str]:
    for place, letter in enumerate(spelling):
        if letter == "'":
            yield spelling[:place] + spelling[place + 1 :]


def _misspellings(spellings: Iterable[str]) -> dict[str, str]:
    return {wrong: right for right in spellings for wrong in _one_apostrophe_less(right)}


CONTRACTIONS: Final[Mapping[str, str]] = {
    **_misspellings(_SPELLINGS.split()),
    "somebody'd": "somebodyd",
}
"""A word with one apostrophe left out, and the word.

Two oddities of the official table stay. ``somebody'd`` goes the other way round. And words that it lists with a
capital, ``Im`` and ``Ive`` among them, are never found, since answers are in lower case by then: ``im`` stays ``im``.
"""
