import jax
import jax.numpy as jnp
import pytest
from ml_collections import FrozenConfigDict

from cmav.models import benchmark, encoders
from cmav.models.conv import LOWERINGS
from tests import tiny_config


def test_shapes_are_those_of_the_encoder():
    model = FrozenConfigDict(tiny_config.get_config().model)
    video = jax.ShapeDtypeStruct((2, 20, 16, 16, 3), jnp.float32)
    encoder = encoders.video(model)
    (_, out), variables = jax.eval_shape(
        lambda x: encoder.init_with_output(jax.random.key(0), x, rate=10.0, train=False), video
    )
    inputs = {0: video.shape, 2: out["layer_1"].shape}
    convolutions = list(benchmark.video_convolutions(model, batch=2, frames=20, size=16))
    assert [i for i, *_ in convolutions] == [0, 2]
    for i, layer, shape, kernel_shape in convolutions:
        assert shape == inputs[i]
        assert kernel_shape == variables["params"][f"layer_{i}"]["kernel"].shape
        assert layer.to_config() == model.video.layers[i]


def test_relative_error_is_the_worst_of_the_leaves():
    reference = [jnp.array([10.0, -20.0]), jnp.array([1.0])]
    assert benchmark.relative_error([jnp.array([10.0, -19.0]), jnp.array([1.1])], reference) == pytest.approx(0.1)


def test_prints_a_row_for_each_lowering(monkeypatch, capsys):
    model = tiny_config.get_config().model
    model.video.layers = model.video.layers[:1]
    run, seconds = benchmark.fastest, {"native": 2e-3, "folded": 5e-4, "folded_taps": 8e-3, "blocks": 1e-3}

    def fastest(functions, args, repeats):
        assert all(0 < took < float("inf") for took in run(functions, args, repeats).values())
        return {name: seconds[name] for name in functions}  # What a busy machine takes is no test.

    monkeypatch.setattr(benchmark, "fastest", fastest)
    benchmark.main(model, batch=1, frames=3, size=8, repeats=1)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[:2] for row in rows] == [["0", name] for name in LOWERINGS]
    for _, name, *numbers in rows:
        *times, error = map(float, numbers)
        milliseconds, ratio = 1e3 * seconds[name], seconds["native"] / seconds[name]
        assert times == pytest.approx([milliseconds, ratio, milliseconds, ratio])
        assert error < 1e-4 and (name != "native" or error == 0.0)
