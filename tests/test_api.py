"""The public interface: what each package exports, so that a change of it is a decision."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
API = {
    "jaxstruct.ops": """
        PermutohedralLattice adaptive_mean_pool anchor_grid atrous_conv batched_nms
        bilinear_kernel bilinear_sample box_area box_iou clip_boxes conv crf decode_boxes
        dense_crf encode_boxes gaussian gaussian_filter gaussian_noise masking_noise match
        max_pool mean_field nms pyramid_level resize_bilinear roi_align roi_pool
        salt_and_pepper_noise sample_balanced spatial_pyramid_pool torch_upconv_kernel upconv
        window_cells
    """,
    "jaxstruct.ops.crf": """
        Kernel dense_crf energy free_energy lattice_capacity mean_field pixel_features
        pixel_kernels
    """,
    "jaxstruct.ops.gaussian": """
        ExactGaussian GridGaussian Normalized gaussian_filter normalized
    """,
    "jaxstruct.losses": """
        BERNOULLI GAUSSIAN Likelihood Sampled bernoulli_log_likelihood box_loss class_loss
        gaussian_log_likelihood importance_sampled_likelihood importance_weighted_bound
        kl_to_standard_normal log_generated log_real median_frequency_weights minimax_loss
        non_saturating_loss objectness_loss optimal_discriminator r1_penalty reparameterize
        sample_anchors sample_proposals sampled segmentation_loss smooth_l1 squared_error
        standard_normal_log_density
    """,
    "jaxstruct.models": """
        ASPP Autoencoder BernoulliDecoder CRFRNN Conv DCGANDiscriminator DCGANGenerator DeepLab
        DeepLabV3Head Detected EfficientNetLite0 EfficientNetLite0Classifier FCN FCNHead FPN
        FastRCNN FasterRCNN GANDiscriminator GANGenerator GaussianDecoder GaussianEncoder LargeFOV
        LinearSVM Maxout Perceptron PlacedWeights Players Proposals Proposed ResNet
        ResNetClassifier UpConv VAE VGG VGGClassifier VGGHead anchor_scales best_detections
        best_proposals class_directions class_vectors convolutionalize dcgan_features
        dcgan_players dcgan_scale_initializer deeplabv3_resnet detect_image
        efficientnet_lite_input faster_rcnn_fpn faster_rcnn_from_torchvision fcn_resnet
        fit_linear_svm from_torchvision gan_noise latent_lines latent_sum perceptron_players
        place_weights pytorch_efficientnet_name segmentation_from_torchvision slid_windows
        sliding_windows torchvision_detection_input torchvision_faster_rcnn_name
        torchvision_fpn_name torchvision_resnet_name torchvision_segmentation_name
        torchvision_vgg_name uniform_initializer vae_initializer
    """,
    "jaxstruct.metrics": """
        Confusion Detections Mean Moments PrecisionRecall Truth best_overlaps boundary_band
        boundary_distance coco_scores frechet_distance nearest_examples parzen_log_likelihood
        voc_curves
    """,
    "jaxstruct.figures": """
        bar_panels box_panels class_map_panels confusion_matrix curve_panels curves heat_maps
        image_grid label_colors label_overlay manifold_coordinates pair_table region_pooling
        scatter_panels side_by_side signed_images upconvolution
    """,
    "jaxstruct.data": """
        Affine CATALOGUE DataError Examples LabelMap Later Prepared Reader ReaderWithProposals
        SetRecord Source StoredProposals VOID canvas_for draw_affine fit_image installed_weights
        jitter_color keep_proposals letter_box load looking middle_square move move_boxes
        noted_weights open_reader padded pixel_counts prepare prepare_folder propose read_image
        read_labels read_proposals read_weights recorded searched selective_search voc_colors where
        with_proposals write_labels
    """,
    "jaxstruct.training": """
        AVERAGE AXIS Batches Claim Experiment Interleaved Reference Run RunError Stage State Stopped
        Study StudyRun TraceError add_up augment_each average_of batches_in_order begin_game
        example_keys in_parts in_proportion interleaved keep_average main make_collection
        make_evaluation make_game_step make_prediction make_step means merge objective on_devices_of
        partition process_count reads_in_order reduce_gradients restore run seeds shuffled_batches
        shuffled_reads split_keys steps_of_epochs with_average
    """,
}


@pytest.mark.parametrize("package", API)
def test_exports(package):
    module = importlib.import_module(package)
    assert sorted(getattr(module, "__all__", [])) == sorted(API[package].split())


@pytest.mark.parametrize("package", API)
def test_everything_public_is_documented(package):
    module = importlib.import_module(package)
    for name in API[package].split():
        value = getattr(module, name)
        if callable(value):
            assert value.__doc__, f"{package}.{name}"
            # A NamedTuple's and a dataclass's default docstring is its signature.
            assert not value.__doc__.startswith(f"{name}("), f"{package}.{name}"


FLOORS = ["jaxstruct.ops", "jaxstruct.ops.crf", "jaxstruct.ops.gaussian"]
FLOORS += ["jaxstruct.losses", "jaxstruct.metrics"]
# What refuses an argument, in the source of a function that says its errors.
REFUSALS = ["raise ", r"_checks\."]
REFUSALS += [rf"\b{name}\(" for name in ("floating", "vectors", "_checked", "_boxes", "_pair")]
REFUSALS += [rf"\b{name}\(" for name in ("_vectors", "_nms", "match")]


def public(package):
    """Each public callable of a package by name, and the public methods of its classes."""
    module = importlib.import_module(package)
    for name in API[package].split():
        value = getattr(module, name)
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            methods = [m for m in vars(value) if not m.startswith("_")]
            yield from ((f"{name}.{m}", getattr(value, m)) for m in methods)


FUNCTIONS = [
    pytest.param(value, id=f"{package}.{name}")
    for package in FLOORS
    for name, value in public(package)
    if inspect.isroutine(value)
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_key_comes_first_and_options_are_named(function):
    parameters = list(inspect.signature(function).parameters.values())
    names = [p.name for p in parameters if p.name not in ("self", "cls")]
    assert not {"key", "keys"} & set(names[1:])
    # A mask is an array that belongs to another one.
    optional = [p for p in parameters if p.default is not inspect.Parameter.empty]
    options = [p for p in optional if p.name != "valid"]
    assert [p.name for p in options if p.kind is not inspect.Parameter.KEYWORD_ONLY] == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_says_its_shapes_and_errors(function):
    text = inspect.getdoc(function)
    assert text
    if "." in function.__qualname__:
        return
    assert re.search(r"\[[^]]*\]", text), "no shape"
    if refusals(function):
        assert re.search(r"(Value|Type)Error", text), "no errors"


def refusals(function):
    source = inspect.getsource(function)
    return {pattern for pattern in REFUSALS if re.search(pattern, source)}


@pytest.mark.parametrize("pattern", REFUSALS)
def test_each_refusal_is_the_only_one_of_some_function(pattern):
    alone = [p.id for p in FUNCTIONS if refusals(*p.values) == {pattern}]
    assert alone, "leave the pattern out: no function needs it"


def loaded(statement):
    """The top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(answer.stdout.split())


def test_importing_the_ops_loads_jax_and_numpy_alone():
    alone = loaded("import jax, numpy, jax.numpy")
    assert loaded("import jaxstruct.ops") - alone <= {"jaxstruct"}


def test_importing_the_library_needs_no_extra():
    extras = {"tensorflow", "tensorflow_datasets", "grain", "tyro", "rich", "PIL", "cv2", "sklearn"}
    extras |= {"skimage", "tensorboardX", "torch", "scipy.io", "safetensors"}
    packages = ", ".join(set(API) - {"jaxstruct.figures"})
    required = loaded("import jax, flax.linen, optax, chex, orbax.checkpoint")
    assert not (loaded(f"import {packages}") - required) & extras
