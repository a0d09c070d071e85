"""Levenshtein distance."""


def edit_distance(first: str, second: str) -> int:
    """Return the fewest insertions, deletions and replacements of letters that turn one text into the other."""
    above = list(range(len(second) + 1))
    for row, letter in enumerate(first, start=1):
        current = [row]
        for column, other in enumerate(second, start=1):
            replaced = above[column - 1] + (letter != other)
            current.append(min(replaced, above[column] + 1, current[-1] + 1))
        above = current
    return above[-1]
