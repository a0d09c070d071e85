"""The seven families of tasks, by name."""

from typing import Final

from profiling.suite.captions import make_caption
from profiling.suite.choice import make_choice
from profiling.suite.counting import make_counting
from profiling.suite.facts import make_fact
from profiling.suite.puzzle import MakePuzzle
from profiling.suite.scenes import make_scene
from profiling.suite.tables import make_table
from profiling.suite.text import make_text

FAMILIES: Final[dict[str, MakePuzzle]] = {
    "scenes": make_scene,
    "text": make_text,
    "counting": make_counting,
    "tables": make_table,
    "choice": make_choice,
    "facts": make_fact,
    "captions": make_caption,
}
