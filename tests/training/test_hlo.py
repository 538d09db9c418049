"""A program as XLA writes it, by hand, of which all numbers are known; and one that XLA has just written."""

import pathlib

import jax
import jax.numpy as jnp
import pytest

from cmav.training.hlo import Program

TEXT = (pathlib.Path(__file__).parent / "loop.hlo").read_text()


@pytest.fixture
def program():
    return Program(TEXT)


def test_cycles_of_a_loop_count_as_often_as_it_runs(program):
    assert program.cycles() == 8 * (30 + 20) + 7


def test_a_fusion_moves_the_slices_that_it_reads_and_writes(program):
    each_time = 2 * 400 + 4 + (400 + 400 + 4)  # the slice out and in, and the number both times
    after = (3200 + 8) * 2 + 2 * 3200 + 2 * 3200  # the sum, transposed, and copied
    assert program.bytes_moved() == 8 * each_time + after


def test_what_devices_tell_each_other(program):
    assert program.collectives() == {"all-reduce": (1, 3208)}


def test_copies_and_largest_arrays_are_named_by_layer(program):
    copies = program.copies(at_least=1000)
    assert [(copy.opcode, copy.bytes) for copy in copies] == [("transpose", 3200), ("copy", 3200)]
    assert copies[0].layer == "audio_encoder/layer_2, forward" and not program.copies(at_least=4000)
    sizes = dict(program.largest(10))
    assert sizes["video_encoder/layer_0/norm, backward"] == 400


def test_a_program_of_this_machine_is_read_whole():
    def step(x):
        def body(carry, _):
            return jnp.sin(carry @ x), None

        return jax.lax.scan(body, x, None, length=5)[0].sum()

    text = jax.jit(step).lower(jnp.ones((64, 64))).compile().as_text()
    program = Program(text)
    # Five products, each of which reads two matrices and writes one.
    assert 5 * 3 * 4 * 64**2 <= program.bytes_moved() <= 2 * 5 * 3 * 4 * 64**2
    assert program.cycles() == 0 and program.collectives() == {}
