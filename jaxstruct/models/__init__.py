"""Models: linen modules, one family a file.

The variables of a large network are made by `jax.jit(model.init)(key, images)`: `model.init` alone
runs the network operation by operation. `jax.eval_shape(model.init, key, images)` has their shapes.
"""

from jaxstruct.models.autoencoder import Autoencoder, Perceptron
from jaxstruct.models.convolutionalize import convolutionalize
from jaxstruct.models.crf import CRFRNN
from jaxstruct.models.dcgan import (
    DCGANDiscriminator,
    DCGANGenerator,
    dcgan_features,
    dcgan_players,
    dcgan_scale_initializer,
)
from jaxstruct.models.deeplab import ASPP, DeepLab, LargeFOV
from jaxstruct.models.efficientnet import (
    EfficientNetLite0,
    EfficientNetLite0Classifier,
    efficientnet_lite_input,
    pytorch_efficientnet_name,
)
from jaxstruct.models.fast_rcnn import Detected, FastRCNN, Proposals, best_detections
from jaxstruct.models.faster_rcnn import FasterRCNN, Proposed, anchor_scales, best_proposals
from jaxstruct.models.faster_rcnn_fpn import (
    detect_image,
    faster_rcnn_fpn,
    faster_rcnn_from_torchvision,
    torchvision_detection_input,
    torchvision_faster_rcnn_name,
)
from jaxstruct.models.fcn import FCN
from jaxstruct.models.gan import (
    GANDiscriminator,
    GANGenerator,
    Players,
    gan_noise,
    perceptron_players,
    uniform_initializer,
)
from jaxstruct.models.latent import class_directions, class_vectors, latent_lines, latent_sum
from jaxstruct.models.layers import Conv, UpConv
from jaxstruct.models.linear_svm import LinearSVM, fit_linear_svm
from jaxstruct.models.maxout import Maxout
from jaxstruct.models.pyramid import FPN, torchvision_fpn_name
from jaxstruct.models.resnet import ResNet, ResNetClassifier, torchvision_resnet_name
from jaxstruct.models.torchvision import PlacedWeights, from_torchvision, place_weights
from jaxstruct.models.torchvision_segmentation import (
    DeepLabV3Head,
    FCNHead,
    deeplabv3_resnet,
    fcn_resnet,
    segmentation_from_torchvision,
    torchvision_segmentation_name,
)
from jaxstruct.models.vae import (
    VAE,
    BernoulliDecoder,
    GaussianDecoder,
    GaussianEncoder,
    vae_initializer,
)
from jaxstruct.models.vgg import VGG, VGGClassifier, VGGHead, torchvision_vgg_name
from jaxstruct.models.windows import slid_windows, sliding_windows

__all__ = [
    "ASPP",
    "CRFRNN",
    "FCN",
    "FPN",
    "VAE",
    "VGG",
    "Autoencoder",
    "BernoulliDecoder",
    "Conv",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "DeepLab",
    "DeepLabV3Head",
    "Detected",
    "EfficientNetLite0",
    "EfficientNetLite0Classifier",
    "FCNHead",
    "FastRCNN",
    "FasterRCNN",
    "GANDiscriminator",
    "GANGenerator",
    "GaussianDecoder",
    "GaussianEncoder",
    "LargeFOV",
    "LinearSVM",
    "Maxout",
    "Perceptron",
    "PlacedWeights",
    "Players",
    "Proposals",
    "Proposed",
    "ResNet",
    "ResNetClassifier",
    "UpConv",
    "VGGClassifier",
    "VGGHead",
    "anchor_scales",
    "best_detections",
    "best_proposals",
    "class_directions",
    "class_vectors",
    "convolutionalize",
    "dcgan_features",
    "dcgan_players",
    "dcgan_scale_initializer",
    "deeplabv3_resnet",
    "detect_image",
    "efficientnet_lite_input",
    "faster_rcnn_fpn",
    "faster_rcnn_from_torchvision",
    "fcn_resnet",
    "fit_linear_svm",
    "from_torchvision",
    "gan_noise",
    "latent_lines",
    "latent_sum",
    "perceptron_players",
    "place_weights",
    "pytorch_efficientnet_name",
    "segmentation_from_torchvision",
    "slid_windows",
    "sliding_windows",
    "torchvision_detection_input",
    "torchvision_faster_rcnn_name",
    "torchvision_fpn_name",
    "torchvision_resnet_name",
    "torchvision_segmentation_name",
    "torchvision_vgg_name",
    "uniform_initializer",
    "vae_initializer",
]
