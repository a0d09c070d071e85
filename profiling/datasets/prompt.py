"""From a sample to the words that the model reads."""

from profiling.datasets.sample import Sample
from profiling.scoring.multiple_choice import option_labels


def prompt_text(sample: Sample) -> str:
    """Return the question with its options, lettered as the Molmo models were trained to read them.

    A question that names its options itself stays as it is.
    The answering style goes in front of it by ``models.processor``.

    Raises:
        ValueError: If there are more options than letters.
    """
    if not sample.options or sample.question_has_options:
        return sample.question
    try:
        letters = option_labels(sample.options)
    except ValueError as err:
        raise ValueError(f"{sample.dataset}: sample {sample.sample_id}: {err}") from err
    lettered = (f"{letter}: {option}\n" for letter, option in zip(letters, sample.options, strict=True))
    return f"{sample.question}\n{''.join(lettered)}"
