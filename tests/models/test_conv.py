import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmav.models import conv
from tests.models import reference

# (frames, height, width), kernel, strides: odd and even sizes, kernels longer than an axis, strides without overlap.
CASES = {
    "stem": ((4, 9, 8), (5, 7, 7), (1, 1, 1)),
    "halving": ((6, 7, 8), (3, 3, 3), (2, 2, 2)),
    "one_frame": ((1, 5, 5), (3, 3, 3), (2, 2, 2)),
    "uneven": ((5, 11, 6), (2, 1, 3), (1, 2, 3)),
    "skipping": ((5, 9, 7), (1, 2, 1), (2, 4, 2)),
    "dilated": ((5, 9, 8), (3, 3, 2), (2, 1, 1), (1, 2, 3)),
    "dilated_in_time": ((7, 4, 5), (3, 1, 3), (1, 2, 1), (2, 1, 3)),
    "dilated_beyond": ((2, 4, 3), (1, 3, 3), (1, 1, 1), (1, 4, 2)),
}


def _arrays(axes, kernel, strides, cin=3, cout=4, batch=2):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, *axes, cin))
    weights = rng.normal(size=(*kernel, cin, cout))
    dy = rng.normal(size=reference.conv(x, weights, strides).shape)
    return x, weights, dy


def _value_and_gradients(function, x, weights, dy):
    def run(x, weights, dy):
        y, backward = jax.vjp(function, x, weights)
        return y, *backward(dy)

    return jax.jit(run)(*(jnp.asarray(a, jnp.float32) for a in (x, weights, dy)))


def _check(case, lowering):
    axes, kernel, strides, *dilation = CASES[case]
    x, weights, dy = _arrays(axes, kernel, strides)
    expected = (
        reference.conv(x, weights, strides, *dilation),
        *reference.conv_gradients(x, weights, strides, dy, *dilation),
    )
    result = _value_and_gradients(lambda x, w: conv.conv3d(x, w, strides, lowering, *dilation), x, weights, dy)
    for name, got, want in zip(("value", "dx", "dkernel"), result, expected, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("lowering", conv.LOWERINGS)
@pytest.mark.parametrize("case", CASES)
def test_every_lowering_agrees_with_plain_loops(case, lowering):
    _check(case, lowering)


# Bands of one row; of two of nine rows, and of three of ten images, so that the last one sticks out.
@pytest.mark.parametrize(("case", "band_bytes"), [("halving", 1), ("stem", 60_000), ("uneven", 2900)])
def test_bands_of_any_size_give_the_same_gradient(case, band_bytes, monkeypatch):
    monkeypatch.setattr(conv, "BAND_BYTES", band_bytes)
    _check(case, "folded_taps")


@pytest.mark.parametrize(
    ("length", "size", "stride", "dilation"),
    [(30, 15, 4, 1), (17, 65, 4, 1), (8, 3, 1, 1), (9, 2, 3, 1), (9, 3, 1, 2), (10, 4, 1, 3)],
)
def test_conv1d_agrees_with_plain_loops(length, size, stride, dilation):
    strides, dilation = (stride,), (dilation,)
    x, weights, dy = _arrays((length,), (size,), strides)
    expected = (
        reference.conv(x, weights, strides, dilation),
        *reference.conv_gradients(x, weights, strides, dy, dilation),
    )
    result = _value_and_gradients(lambda x, w: conv.conv1d(x, w, strides, dilation), x, weights, dy)
    for got, want in zip(result, expected, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-4)


@pytest.mark.parametrize("lowering", conv.LOWERINGS)
@pytest.mark.parametrize(("axes", "kernel", "strides"), [((9, 8), (7, 7), (2, 2)), ((6, 7), (3, 3), (1, 2))])
def test_conv2d_agrees_with_plain_loops(axes, kernel, strides, lowering):
    x, weights, dy = _arrays(axes, kernel, strides)
    expected = (reference.conv(x, weights, strides), *reference.conv_gradients(x, weights, strides, dy))
    result = _value_and_gradients(lambda x, w: conv.conv2d(x, w, strides, lowering), x, weights, dy)
    for got, want in zip(result, expected, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_a_dilated_output_is_what_the_kernel_makes_of_every_nth_step_alone(size):
    x, kernel, _ = _arrays((12,), (size,), (1,))
    x, kernel = jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)
    dilated = conv.conv1d(x, kernel, (1,), (3,))
    for phase in range(3):
        np.testing.assert_allclose(dilated[:, phase::3], conv.conv1d(x[:, phase::3], kernel, (1,)), atol=1e-5)


def test_a_dilation_with_a_stride_is_refused():
    with pytest.raises(ValueError, match="stride 2 with dilation 3"):
        conv.same_padding(9, 3, 2, 3)


@pytest.mark.parametrize("lowering", conv.LOWERINGS)
@pytest.mark.parametrize(("strides", "dilation"), [((2, 2, 2), (1, 1, 1)), ((2, 1, 1), (1, 2, 2))])
def test_bfloat16_stays_near_float64_and_kernels_get_float32_gradients(lowering, strides, dilation):
    x, weights, dy = _arrays((4, 8, 8), (3, 3, 3), strides)
    y, backward = jax.vjp(
        lambda x, w: conv.conv3d(x, w, strides, lowering, dilation),
        jnp.asarray(x, jnp.bfloat16),
        jnp.asarray(weights, jnp.float32),
    )
    dx, dkernel = backward(jnp.asarray(dy, jnp.bfloat16))
    assert (y.dtype, dx.dtype, dkernel.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    expected = (
        reference.conv(x, weights, strides, dilation),
        *reference.conv_gradients(x, weights, strides, dy, dilation),
    )
    for got, want in zip((y, dx, dkernel), expected, strict=True):
        assert np.abs(np.asarray(got, np.float64) - want).max() < 0.02 * np.abs(want).max()


@pytest.mark.parametrize(("kernel", "cin"), [((3, 3, 3), 3), ((1, 2, 2), 3), ((1, 2, 2), 64)])
def test_auto_is_what_the_table_says_for_this_backend(kernel, cin):
    x, weights, _ = _arrays((4, 6, 6), kernel, (1, 1, 1), cin)
    text = {
        lowering: str(jax.make_jaxpr(lambda x, w, low=lowering: conv.conv3d(x, w, (1, 1, 1), low))(x, weights))
        for lowering in ("auto", *conv.LOWERINGS)
    }
    few = kernel == (1, 2, 2) and cin == 3  # taps and channels
    expected = conv.LOWERING_BY_BACKEND.get(jax.default_backend(), "blocks" if few else "folded_taps")
    assert text["auto"] == text[expected]
    assert len({text[lowering] for lowering in ("native", "folded", "blocks")}) == 3
