"""The look all figures share: a page 8 inches wide, whose type is legible at 800 pixels."""

from matplotlib.textpath import TextPath

PAGE_INCHES = 8.0
DPI = 150
TEXT_POINTS = 10
TICK_POINTS = 9

# Okabe & Ito's palette, told apart by the colour-blind; yellow is left out, too pale for lines.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def text_inches(text: str, points: float) -> float:
    """How wide one line of text is."""
    return float(TextPath((0, 0), text, size=points).get_extents().width) / 72 if text else 0.0
