"""Times each lowering of the network's 3-D convolutions on the backend at hand.

python -m cmav.models.benchmark
python -m cmav.models.benchmark --config=configs/avs_cma.py --frames=126 --size=224 --config.model.dtype=bfloat16

One row for each convolution of `config.model.video.layers` and each lowering (see `conv.py`): milliseconds, and how
many times faster than `native` in the same run (1.0), for the forward pass and for forward and backward together, and
the greatest difference from native, relative to its greatest value. The first layer's input, the video, needs no
gradient and gets none. The runs of the lowerings alternate, and the fastest of each counts.
"""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from ml_collections import ConfigDict

from cmav import cli
from cmav import config as cmav_config
from cmav.models import encoders
from cmav.models.conv import LOWERINGS, conv3d
from cmav.models.layers import Layer, parse


def video_convolutions(
    config: ConfigDict, batch: int, frames: int, size: int
) -> Iterator[tuple[int, Layer, tuple[int, ...], tuple[int, ...]]]:
    """Yields (number, layer, shape of its input, shape of its kernel) of each convolution of the video encoder."""
    shape = (batch, frames, size, size, 3)
    for i, layer in enumerate(parse(encoders.video(config).geometry())):
        if layer.kind == "conv":
            yield i, layer, shape, (*layer.kernel, shape[-1], layer.features)
        axes = tuple(-(-length // stride) for length, stride in zip(shape[1:-1], layer.strides, strict=True))
        shape = (batch, *axes, layer.features or shape[-1])


def fastest(functions: dict[str, Callable[..., Any]], args: tuple[jax.Array, ...], repeats: int) -> dict[str, float]:
    """Seconds of the fastest run of each compiled function; their runs alternate, so that all meet the same weather."""
    seconds = dict.fromkeys(functions, float("inf"))
    for function in functions.values():
        jax.block_until_ready(function(*args))  # The first run is slower.
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function(*args))
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def relative_error(tree: Any, reference: Any) -> float:
    """The greatest difference of any leaf, relative to the greatest absolute value of the reference's leaf."""
    error = jax.tree.map(lambda a, b: jnp.abs(a - b).max() / jnp.abs(b).max(), *_float32((tree, reference)))
    return max(float(e) for e in jax.tree.leaves(error))


def _float32(tree: Any) -> Any:
    return jax.tree.map(lambda a: a.astype(jnp.float32), tree)


def _compile(layer: Layer, shape, kernel_shape, lowering: str, dtype: str, gradient_of: tuple[int, ...] | None):
    conv = functools.partial(conv3d, strides=layer.strides, lowering=lowering, dilation=layer.dilation)

    def forward_and_backward(x, kernel, dy):
        y, backward = jax.vjp(conv, x, kernel)
        gradients = backward(dy.astype(y.dtype))
        return y, [gradients[i] for i in gradient_of]

    x = jax.ShapeDtypeStruct(shape, dtype)
    kernel = jax.ShapeDtypeStruct(kernel_shape, jnp.float32)
    if gradient_of is None:
        return jax.jit(conv).lower(x, kernel).compile()
    dy = jax.eval_shape(conv, x, kernel)
    return jax.jit(forward_and_backward).lower(x, kernel, dy).compile()


def main(config: ConfigDict, batch: int, frames: int, size: int, repeats: int) -> None:
    device = jax.devices()[0]
    print(f"{device.platform} ({device.device_kind}), {config.dtype}, {batch} clip(s) of {frames} frames of {size}²")
    print(
        f"{'layer':>5}  {'lowering':<12} {'forward ms':>11} {'ratio':>6} {'with backward ms':>17} {'ratio':>6}  error"
    )
    for i, layer, shape, kernel_shape in video_convolutions(config, batch, frames, size):
        keys = jax.random.split(jax.random.key(i), 3)
        x = jax.random.normal(keys[0], shape, config.dtype)
        kernel = jax.random.normal(keys[1], kernel_shape)
        dy = jax.random.normal(
            keys[2], jax.eval_shape(functools.partial(conv3d, strides=layer.strides), x, kernel).shape
        )
        compiled = functools.partial(_compile, layer, shape, kernel_shape, dtype=config.dtype)
        gradient_of = (1,) if i == 0 else (0, 1)
        forward = {name: compiled(name, gradient_of=None) for name in LOWERINGS}
        both = {name: compiled(name, gradient_of=gradient_of) for name in LOWERINGS}
        dy = dy.astype(config.dtype)
        results = {name: function(x, kernel, dy) for name, function in both.items()}
        forward_seconds = fastest(forward, (x, kernel), repeats)
        both_seconds = fastest(both, (x, kernel, dy), repeats)
        for name in LOWERINGS:
            print(
                f"{i:>5}  {name:<12} {forward_seconds[name] * 1e3:>11.2f} "
                f"{forward_seconds['native'] / forward_seconds[name]:>6.2f} {both_seconds[name] * 1e3:>17.2f} "
                f"{both_seconds['native'] / both_seconds[name]:>6.2f}  "
                f"{relative_error(results[name], results['native']):.0e}",
                flush=True,
            )


if __name__ == "__main__":
    _CONFIG = cli.define_config_flag()
    _BATCH = flags.DEFINE_integer("batch", 1, "Clips in a batch.", lower_bound=1)
    _FRAMES = flags.DEFINE_integer("frames", 16, "Frames of a clip.", lower_bound=1)
    _SIZE = flags.DEFINE_integer("size", 64, "Height and width of a frame, in pixels.", lower_bound=1)
    _REPEATS = flags.DEFINE_integer("repeats", 5, "Timed runs of each lowering.", lower_bound=1)
    cli.run(
        lambda: main(
            (_CONFIG.value or cmav_config.get_default()).model,
            _BATCH.value,
            _FRAMES.value,
            _SIZE.value,
            _REPEATS.value,
        )
    )
