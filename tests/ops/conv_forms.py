"""An example of each form of convolution, which several test files go through."""

from functools import partial

import numpy as np

from jaxstruct.ops import conv

# Shapes of x and the kernel, and options, for which a CPU takes each of the forms. Winograd's are
# F(2, 2), which compiles the fastest and is exact for whole numbers: no matrix has a fraction.
FORMS = {
    "winograd": ((16, 16, 32), (2, 2, 32, 32), {"padding": ((0, 1), (1, 0))}),
    "by batch": (
        (15, 16, 32),
        (2, 2, 32, 32),
        {"padding": ((1, 1), (0, 2)), "dilation": (2, 2)},
    ),
    "moved": ((16, 17, 32), (3, 3, 32, 32), {"padding": ((12, 9), (11, 14)), "dilation": (11, 12)}),
    "by depth": ((31, 32, 32), (4, 4, 32, 32), {"padding": ((1, 1), (0, 2)), "stride": (2, 2)}),
    "1x1": ((5, 4, 3), (1, 1, 3, 2), {"padding": ((0, 0), (1, 0)), "stride": (2, 1)}),
    "cut apart": ((17, 9, 3), (3, 2, 3, 2), {"padding": ((2, 0), (1, 0)), "stride": (8, 7)}),
    "gathered": ((5, 4, 3), (3, 2, 3, 2), {"padding": ((1, 0), (0, 1)), "dilation": (1, 2)}),
    "by tap": ((5, 4, 4), (3, 2, 1, 4), {"padding": ((1, 0), (0, 1)), "groups": 4}),
    "convolved": ((5, 4, 4), (3, 2, 2, 6), {"padding": ((1, 0), (0, 1)), "groups": 2}),
}


def example(form, dtype=np.float32, whole=False):
    """x, kernel and the op with its options."""
    rng = np.random.default_rng(0)
    draw = (lambda s: rng.integers(-4, 5, s)) if whole else (lambda s: rng.normal(size=s))
    *shapes, options = FORMS[form]
    x, kernel = (draw(shape).astype(np.float32).astype(dtype) for shape in shapes)
    return x, kernel, partial(conv, **options)


def plain(form):
    """The options as those of `conv_reference.slow`."""
    return {"ends" if name == "padding" else name: v for name, v in FORMS[form][2].items()}
