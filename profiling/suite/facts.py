"""Facts to memorise: each drawn symbol has a name, a home, a food and a price that no picture shows.

One constant seed fixes them, so that training and tests are about the same facts; tests show the symbols in pictures
of their own.
"""

from dataclasses import dataclass
from typing import Final

from profiling.suite.draws import Draws
from profiling.suite.marks import PICTURE_POINTS, Picture, Symbol
from profiling.suite.palette import BACKGROUND_NAMES
from profiling.suite.puzzle import Puzzle
from profiling.suite.symbols import NUM_SYMBOLS
from profiling.suite.things import COLOR_NAMES, spread_out
from profiling.suite.vocabulary import FOODS, HOMES
from profiling.suite.words import invented_word

_MOST_TURN = 14  # degrees
_HIGHEST_PRICE = 99


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is to be known about one symbol.

    Args:
        name: Of no other symbol.
        home: Where it lives.
        food: What it eats.
        price: From 1 to 99.
    """

    name: str
    home: str
    food: str
    price: int


def _draw_facts() -> tuple[Facts, ...]:
    draws = Draws("facts", may_be_unseen=True)
    names: dict[str, None] = {}
    while len(names) < NUM_SYMBOLS:
        names[invented_word(draws)] = None
    return tuple(
        Facts(name=name, home=draws.one_of(HOMES), food=draws.one_of(FOODS), price=draws.whole(1, _HIGHEST_PRICE))
        for name in names
    )


FACTS: Final = _draw_facts()
_QUESTIONS = {
    "name": "what is the name of the {symbol}?",
    "home": "where does the {symbol} live?",
    "food": "what does the {symbol} eat?",
    "price": "what is the price of the {symbol}?",
}


def make_fact(draws: Draws) -> Puzzle:
    """Make a puzzle of one large symbol (easy) or of three small ones of different colors (hard)."""
    is_hard = draws.chance(0.5)
    numbers = draws.some_of(range(NUM_SYMBOLS), 3 if is_hard else 1)
    colors = draws.some_of(COLOR_NAMES, len(numbers))
    kind = draws.one_of(tuple(_QUESTIONS))
    symbol = f"{colors[0]} symbol" if is_hard else "symbol"
    return Puzzle(
        picture=Picture(background=draws.one_of(BACKGROUND_NAMES), marks=_symbols(draws, numbers, colors)),
        question=_QUESTIONS[kind].format(symbol=symbol),
        answers=(answer_of(FACTS[numbers[0]], kind),),
        kind=kind,
        is_hard=is_hard,
    )


def answer_of(facts: Facts, kind: str) -> str:
    """Return one of the facts, as it is answered."""
    return {"name": facts.name, "home": facts.home, "food": facts.food, "price": str(facts.price)}[kind]


def _symbols(draws: Draws, numbers: list[int], colors: list[str]) -> tuple[Symbol, ...]:
    if len(numbers) == 1:
        size = draws.between(92, 128)
        slack = (PICTURE_POINTS - size) / 2
        xy, sizes = [(96 + draws.between(-slack, slack), 96 + draws.between(-slack, slack))], [size]
    else:
        places = spread_out(draws, len(numbers))
        xy, sizes = places.xy, [places.cell * draws.between(0.78, 0.9) for _ in numbers]
    return tuple(
        Symbol(number=number, color=color, x=x, y=y, size=size, turn=draws.whole(-_MOST_TURN, _MOST_TURN))
        for number, color, (x, y), size in zip(numbers, colors, xy, sizes, strict=True)
    )
