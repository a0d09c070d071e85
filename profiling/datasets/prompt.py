"""From a sample to the words that the model reads."""

from string import ascii_uppercase

from profiling.datasets.sample import Sample


def prompt_text(sample: Sample) -> str:
    """Return the question with its options, lettered as the Molmo models were trained to read them.

    The answering style goes in front of it by ``models.processor``.

    Raises:
        ValueError: If there are more options than letters.
    """
    if not sample.options:
        return sample.question
    if len(sample.options) > len(ascii_uppercase):
        raise ValueError(
            f"{sample.dataset}: sample {sample.sample_id}: options: expected at most {len(ascii_uppercase)}, "
            f"found {len(sample.options)}"
        )
    lettered = (f"{letter}: {option}\n" for letter, option in zip(ascii_uppercase, sample.options, strict=False))
    return f"{sample.question}\n{''.join(lettered)}"
