"""What the figures share: size, resolution, and how they are saved so that the repository can carry them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rt_engine.atomic_file import written_whole
from rt_engine.errors import M2MError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110
"""Pixels per inch: text of 8 to 9 points stays readable in the documentation's column."""

MAX_BYTES = 200_000
"""Largest picture that the repository takes."""


def new_figure(width_in: float, height_in: float) -> "Figure":
    """Make an empty figure that needs no screen.

    Parameters
    ----------
    width_in, height_in
        Size, inches.

    Returns
    -------
    matplotlib.figure.Figure
        With constrained layout.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")


def save_figure(figure: "Figure", path: Path) -> int:
    """Write a figure as PNG; the same figure gives the same bytes.

    Parameters
    ----------
    figure
        What to write.
    path
        Where; replaced in one step.

    Returns
    -------
    int
        Size of the file, bytes.

    Raises
    ------
    M2MError
        If the picture is larger than `MAX_BYTES`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    # A palette of 256 colours: shaded surfaces would otherwise be several times as large.
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    with written_whole(path) as temporary:
        image.save(temporary, format="PNG", optimize=True)
        size = temporary.stat().st_size
        if size > MAX_BYTES:
            raise M2MError(f"{path} would have {size} bytes; a picture of the documentation has at most {MAX_BYTES}")
    return size
