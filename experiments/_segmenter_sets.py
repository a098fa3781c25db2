"""What experiments know of the sets that segmenters are trained on: colours, scored classes.

What may be added: another set.
"""

import numpy as np

from experiments import _detector_config

VOC_SCORED = "background", *_detector_config.SCORED["voc2012"]
"""The classes of VOC 2012 that the list pack_train has enough images of."""

CAMVID_COLORS = np.array(  # as SegNet draws them
    [
        [128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222],
        [128, 128, 0], [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192],
    ],
    np.uint8,
)  # fmt: skip
