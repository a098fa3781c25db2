"""What every page promises: nothing is cut by its edge, and nothing lies over anything else."""

from matplotlib.backends.backend_agg import FigureCanvasAgg


def assert_nothing_overlaps(figure):
    """The texts of the page, its legends and its panels, each with its own texts."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, page = canvas.get_renderer(), figure.bbox
    parts = [text for text in figure.texts if text.get_text()]
    parts += [*figure.legends, *figure.axes]
    found = [part.get_tightbbox(renderer) for part in parts]
    for i, box in enumerate(found):
        assert box.x0 > page.x0 - 1, parts[i]
        assert box.x1 < page.x1 + 1, parts[i]
        assert box.y0 > page.y0 - 1, parts[i]
        assert box.y1 < page.y1 + 1, parts[i]
        for other, what in zip(found[i + 1 :], parts[i + 1 :], strict=True):
            assert not box.overlaps(other), (parts[i], what)
