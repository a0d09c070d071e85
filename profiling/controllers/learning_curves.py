"""Goodput accuracy in validation, epoch by epoch, of several ways to learn."""

# Shape suffixes: F = fits, E = epochs.

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from profiling.controllers.fits import Fit
from profiling.profile_plots import STYLE


def plot_learning_curves(fits: Mapping[str, Sequence[Fit]], *, caption: str) -> Figure:
    """Draw each recipe's mean over seeds, in a band of one standard deviation.

    Args:
        fits: By recipe; those of one recipe have as many epochs.
        caption: Which model, device and data.
    """
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(figsize=(5.6, 3.8))
        for row, members in fits.items():
            goodput_FE = np.asarray([fit.val_goodput for fit in members])
            epochs = np.arange(1, goodput_FE.shape[1] + 1)
            mean_E, spread_E = goodput_FE.mean(axis=0), goodput_FE.std(axis=0, ddof=min(1, len(members) - 1))
            (line,) = axes.plot(epochs, mean_E, label=row.replace("_", " "))
            axes.fill_between(epochs, mean_E - spread_E, mean_E + spread_E, color=line.get_color(), alpha=0.15, lw=0)
        axes.set(xlabel="epoch", ylabel="goodput accuracy in validation")
        axes.legend()
        num_seeds = len(next(iter(fits.values())))
        figure.suptitle(f"Line: mean over {num_seeds} seeds. Band: one standard deviation\n{caption}", fontsize=8)
    return figure
