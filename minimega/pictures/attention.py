"""The picture of attention: which words of one text each word of another looks at."""

from pathlib import Path

import numpy as np

from minimega.errors import naming
from minimega.pictures.fonts import fonts_for
from minimega.pictures.loss import new_figure


def attention_picture(path: str | Path, weights, seen: list[str], written: list[str]) -> None:
    """Save a panel per layer of the weights (layers, T, S), averaged over heads: row by row, each sums to 1.

    `seen` are the words of the S columns, of which padding at the end may be left out; `written` are the
    words of the T rows. Raises OSError if the file cannot be written.
    """
    weights = np.asarray(weights)[:, : len(written), : len(seen)]
    layers, rows, columns = weights.shape
    figure = new_figure(dpi=150)
    figure.set_size_inches(1.2 + layers * (0.8 + 0.3 * columns), 1.2 + 0.28 * rows)
    figure.set_layout_engine("constrained")
    with fonts_for([*seen, *written]) as shown:
        below, beside = [*map(shown, seen)], [*map(shown, written)]
        for n, axes in enumerate(figure.subplots(1, layers, sharey=True, squeeze=False)[0]):
            axes.imshow(weights[n], cmap="Blues", vmin=0, vmax=1, aspect="auto")
            axes.set_xticks(
                range(columns), below, rotation=60, ha="right", rotation_mode="anchor", fontsize=8
            )
            axes.set_yticks(range(rows), beside, fontsize=8)
            axes.set_title(f"block {n}: each row looks at the dark columns", loc="left", fontsize=8)
            axes.spines[:].set_visible(False)
    with naming(path):
        figure.savefig(path)
