"""The networks of the GAN against a hand-written backward pass; maxout, dropout and noise."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxstruct.losses import log_generated, log_real, minimax_loss, non_saturating_loss
from jaxstruct.models import (
    GANDiscriminator,
    GANGenerator,
    Maxout,
    gan_noise,
    perceptron_players,
    uniform_initializer,
)
from tests.models import gan_reference

LATENT, HIDDEN, SIZE, UNITS, PIECES, EXAMPLES = 4, 7, 9, 5, 3, 6
GENERATOR, DISCRIMINATOR = GANGenerator(HIDDEN, SIZE), GANDiscriminator(UNITS, PIECES)


def reference_parameters():
    return {
        "discriminator": gan_reference.of_discriminator(SIZE, UNITS, PIECES),
        "generator": gan_reference.of_generator(LATENT, HIDDEN, SIZE),
    }


def nested(flat, dtype=np.float32):
    return unflatten_dict({k: jnp.asarray(v, dtype) for k, v in flat.items()}, sep="/")


def batch():
    rng = np.random.default_rng(3)
    x, z = rng.random((EXAMPLES, SIZE)), rng.uniform(-1, 1, (2, EXAMPLES, LATENT))
    return x, *z


def drawn_by(apply, *given):
    """The masks of dropout, in order, that a call draws: what it makes of ones."""
    found = []

    def spy(layer, args, options, context):
        if isinstance(context.module, nn.Dropout):
            found.append(layer(jnp.ones_like(args[0]), **options))
            return args[0] * found[-1]
        return layer(*args, **options)

    with nn.intercept_methods(spy):
        out = apply(*given)
    return found, out


def masks_of(apply, *given):
    """`drawn_by` as float64 in NumPy."""
    found, out = drawn_by(apply, *given)
    return [np.asarray(mask, np.float64) for mask in found], out


def loss_of_discriminator(params, x, z, keys):
    made = GENERATOR.apply({"params": params["generator"]}, z)
    real, fake = (
        DISCRIMINATOR.apply(
            {"params": params["discriminator"]}, v, train=True, rngs={"dropout": key}
        )
        for v, key in zip((x, made), keys, strict=True)
    )
    return -jnp.mean(jnp.concatenate([log_real(real), log_generated(fake)]))


def loss_of_generator(params, z, key, loss):
    made = GENERATOR.apply({"params": params["generator"]}, z)
    options = {"train": True, "rngs": {"dropout": key}}
    fake = DISCRIMINATOR.apply({"params": params["discriminator"]}, made, **options)
    return jnp.mean(loss(fake))


# In a program that is not optimized, XLA may round what Maxout compares twice, each time otherwise:
# the gradient of its maximum is 0 / 0 there.
@pytest.mark.optimized
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["discriminator", "minimax", "non_saturating"])
def test_every_gradient_equals_the_hand_written_pass(kind, dtype):
    drawn, (x, z, _) = reference_parameters(), batch()
    p_d, p_g = drawn["discriminator"], drawn["generator"]
    keys = list(jax.random.split(jax.random.key(0)))
    with jax.enable_x64(dtype == "float64"):
        params = {player: nested(flat, dtype) for player, flat in drawn.items()}
        x, z = jnp.asarray(x, dtype), jnp.asarray(z, dtype)
        masks = [
            masks_of(
                lambda v, key=key: DISCRIMINATOR.apply(
                    {"params": params["discriminator"]}, v, train=True, rngs={"dropout": key}
                ),
                x,
            )[0]
            for key in keys
        ]
        if kind == "discriminator":
            mover, f = "discriminator", lambda p: loss_of_discriminator(p, x, z, keys)
        else:
            loss = minimax_loss if kind == "minimax" else non_saturating_loss
            mover, f = "generator", lambda p: loss_of_generator(p, z, keys[1], loss)
        value, gradients = jax.jit(jax.value_and_grad(f))(params)
        value, gradients = jax.device_get((value, flatten_dict(gradients[mover], sep="/")))
    x, z = np.asarray(x, np.float64), np.asarray(z, np.float64)
    if kind == "discriminator":
        expected, by_hand = gan_reference.discriminator(p_d, p_g, x, z, *masks)
    else:
        expected, by_hand = gan_reference.generator(p_d, p_g, z, masks[1], kind)
    assert value.dtype == dtype
    tolerance = 1e-11 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(value, expected, rtol=tolerance)
    assert gradients.keys() == by_hand.keys()
    for layer, gradient in gradients.items():
        difference = np.linalg.norm(gradient - by_hand[layer])
        assert difference <= tolerance * np.linalg.norm(by_hand[layer]), layer


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_reference_gradient_is_finite_differences(player):
    drawn, (x, z, _) = reference_parameters(), batch()
    rng = np.random.default_rng(5)
    shapes = [(EXAMPLES, SIZE), (EXAMPLES, UNITS), (EXAMPLES, UNITS)]
    masks = [[rng.choice([0, 1.25], shape) for shape in shapes] for _ in range(2)]

    def loss(params):
        p_d, p_g = params["discriminator"], params["generator"]
        if player == "discriminator":
            return gan_reference.discriminator(p_d, p_g, x, z, *masks)
        return gan_reference.generator(p_d, p_g, z, masks[1], "minimax")

    _, gradients = loss(drawn)
    for layer, value in drawn[player].items():
        direction = rng.normal(size=value.shape)
        up, down = (
            loss({**drawn, player: {**drawn[player], layer: value + step * direction}})[0]
            for step in (1e-6, -1e-6)
        )
        slope = np.sum(gradients[layer] * direction)
        assert slope == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-9), layer


def test_maxout_by_hand():
    # Units |x| and max(x, 2 - x): the largest of two lines each.
    kernel = np.array([[[1.0, 1.0], [-1.0, -1.0]]])
    params = {"linear": {"kernel": kernel, "bias": np.array([[0, 0], [0, 2.0]])}}
    x = np.array([[-3.0], [0.5], [4.0]])
    h = Maxout(2, 2).apply({"params": params}, x)
    np.testing.assert_allclose(h, [[3, 5], [0.5, 1.5], [4, 4]])


def test_maxout_takes_any_axes_and_its_kernel_is_that_of_a_layer():
    layer = Maxout(40, 5)
    h, variables = jax.jit(layer.init_with_output)(jax.random.key(0), jnp.ones((2, 3, 300)))
    assert h.shape == (2, 3, 40)
    kernel = variables["params"]["linear"]["kernel"]
    assert kernel.shape == (300, 5, 40)
    # Linen's default: variance 1 / inputs.
    assert np.std(kernel) == pytest.approx(300**-0.5, rel=0.02)
    one = layer.apply(variables, jnp.ones(300))
    np.testing.assert_allclose(h[1, 2], one, rtol=1e-5)
    half = Maxout(40, 5, dtype=jnp.bfloat16).apply(variables, jnp.ones(300))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(np.float32), one, atol=0.05)


def test_dropout_keeps_the_shares_that_the_authors_keep_and_scales_by_them():
    model = GANDiscriminator(2000, 2)
    x = jnp.ones((1, 4000))
    variables = jax.jit(model.init)(jax.random.key(0), x)
    masks, _ = masks_of(
        lambda x: model.apply(variables, x, train=True, rngs={"dropout": jax.random.key(1)}), x
    )
    assert [np.unique(mask).tolist() for mask in masks] == [[0, 1.25], [0, 2], [0, 2]]
    for mask, kept in zip(masks, (0.8, 0.5, 0.5), strict=True):
        deviation = math.sqrt(kept * (1 - kept) / mask.size)
        assert abs(np.mean(mask > 0) - kept) < 4 * deviation
    assert np.any(masks[1] != masks[2])
    evaluated, _ = masks_of(lambda x: model.apply(variables, x), x)
    assert all(np.all(mask == 1) for mask in evaluated)


def test_generator_lies_between_0_and_1_and_begins_where_it_is_told():
    mean = np.array([0.01, 0.5, 0.9], np.float32)
    bias = np.log(mean / (1 - mean))
    model = GANGenerator(
        50,
        3,
        kernel_init=uniform_initializer(1e-4),
        output_bias_init=lambda key, shape, dtype: jnp.asarray(bias, dtype).reshape(shape),
    )
    x, variables = jax.jit(model.init_with_output)(jax.random.key(0), jnp.ones((2, LATENT)))
    np.testing.assert_allclose(x[0], mean, rtol=1e-4)
    wide = jax.tree.map(lambda w: np.float32(1e4) * np.asarray(w), variables)
    x = jax.jit(model.apply)(wide, jax.random.normal(jax.random.key(1), (20, LATENT)))
    assert np.all((x >= 0) & (x <= 1))
    assert np.ptp(x) > 0.9


def test_uniform_initializer():
    drawn = uniform_initializer(0.05)(jax.random.key(0), (100, 200), jnp.float32)
    assert drawn.dtype == np.float32
    assert -0.05 <= drawn.min() < -0.0499 < 0.0499 < drawn.max() <= 0.05
    assert abs(np.mean(drawn)) < 4 * 0.05 / math.sqrt(3 * drawn.size)


def test_noise_has_mean_0_and_variance_1():
    keys = jax.random.split(jax.random.key(0), 2000)
    z = np.asarray(jax.jit(jax.vmap(lambda key: gan_noise(key, 10)))(keys))
    assert z.shape == (2000, 10)
    assert abs(z.mean()) < 4 / math.sqrt(z.size)
    # Of a uniform variable, the square's deviation is sqrt(9/5 - 1).
    assert abs(np.mean(z**2) - 1) < 4 * math.sqrt(0.8 / z.size)
    assert np.abs(z).max() == pytest.approx(math.sqrt(3), rel=1e-3)


def test_init_reaches_all_parameters():
    for player, model, given in (
        ("generator", GENERATOR, jnp.zeros(LATENT)),
        ("discriminator", DISCRIMINATOR, jnp.zeros(SIZE)),
    ):
        params = jax.eval_shape(model.init, jax.random.key(0), given)["params"]
        shapes = {k: v.shape for k, v in flatten_dict(params, sep="/").items()}
        assert shapes == {k: v.shape for k, v in reference_parameters()[player].items()}


def test_the_papers_networks_are_the_defaults():
    g, d = GANGenerator(), GANDiscriminator()
    made = jax.eval_shape(g.init, jax.random.key(0), jnp.zeros((1, 100)))["params"]
    assert [made[k]["kernel"].shape for k in ("hidden1", "hidden2", "output")] == [
        (100, 1200),
        (1200, 1200),
        (1200, 784),
    ]
    judge = jax.eval_shape(d.init, jax.random.key(0), jnp.zeros((1, 784)))["params"]
    assert judge["maxout1"]["linear"]["kernel"].shape == (784, 5, 240)
    assert judge["maxout2"]["linear"]["kernel"].shape == (240, 5, 240)


def test_compute_dtype_leaves_the_parameters_in_float32():
    for wide, half, given in (
        (GENERATOR, GANGenerator(HIDDEN, SIZE, dtype=jnp.bfloat16), jnp.ones((2, LATENT))),
        (DISCRIMINATOR, GANDiscriminator(UNITS, PIECES, dtype=jnp.bfloat16), jnp.ones((2, SIZE))),
    ):
        variables = jax.jit(half.init)(jax.random.key(0), given)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
        out = jax.jit(half.apply)(variables, given)
        assert out.dtype == jnp.bfloat16
        expected = jax.jit(wide.apply)(variables, given)
        np.testing.assert_allclose(out.astype(np.float32), expected, atol=0.05)


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (Maxout(0, 2), jnp.zeros(3), "features=0, expected at least 1"),
        (Maxout(2, 0), jnp.zeros(3), "pieces=0, expected at least 1"),
        (Maxout(2, 2), jnp.zeros(()), r"shape \(\), expected \[\.\.\., D\]"),
        (GANGenerator(0, 3), jnp.zeros(3), "hidden=0, expected at least 1"),
        (GANGenerator(3, -1), jnp.zeros(3), "size=-1, expected at least 1"),
        (GANDiscriminator(3, 0), jnp.zeros(3), "pieces=0, expected at least 1"),
        (GANDiscriminator(3, 2), jnp.zeros(()), r"shape \(\), expected \[\.\.\., D\]"),
    ],
)
def test_errors(model, given, message):
    with pytest.raises(ValueError, match=message):
        model.init(jax.random.key(0), given)


def test_perceptrons_judge_without_dropout_what_they_judge_at_once():
    shape = 3, 3, 1
    players = perceptron_players(GENERATOR, DISCRIMINATOR, LATENT, shape)
    params, model_state = players.init(jax.random.key(0))
    images, _ = players.sample(
        params["generator"], model_state, jax.random.split(jax.random.key(1), 5), True
    )
    z = players.noise(jax.random.key(1), 5)
    np.testing.assert_array_equal(images, players.generate(params["generator"], {}, z, True)[0])
    np.testing.assert_array_equal(
        z[2], gan_noise(jax.random.split(jax.random.key(1), 5)[2], LATENT)
    )
    assert images.shape == (5, *shape)
    plain, _ = players.judge(params["discriminator"], model_state, images, None)
    expected = DISCRIMINATOR.apply({"params": params["discriminator"]}, images.reshape(5, SIZE))
    np.testing.assert_array_equal(plain, expected)
    keys = jax.random.split(jax.random.key(2), 5)
    dropped, _ = players.judge(params["discriminator"], model_state, images, keys)
    assert np.all(dropped != plain)
    # A mask an image: the same image, with another's key, has another's logit.
    same = jnp.broadcast_to(images[:1], images.shape)
    logits, _ = players.judge(params["discriminator"], model_state, same, keys)
    assert len(np.unique(logits)) == 5


def test_noise_has_the_shape_that_is_asked_for():
    players = perceptron_players(GENERATOR, DISCRIMINATOR, LATENT, (3, 3, 1))
    z = players.noise(jax.random.key(0), 2, 3)
    assert z.shape == (2, 3, LATENT)
    np.testing.assert_array_equal(z.reshape(6, LATENT), players.noise(jax.random.key(0), 6))
