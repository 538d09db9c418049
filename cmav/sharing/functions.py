"""What a network computes, as functions of arrays: for Python, and as programs that run without cmav.

| function       | of a network with | inputs                                        | result                 |
| -------------- | ----------------- | --------------------------------------------- | ---------------------- |
| `encode_video` | offsets           | frames uint8 [B, T, H, W, 3]                  | tokens [B, N, D]       |
| `encode_audio` | offsets           | samples int16 [B, S, 2]                       | tokens [B, M, D]       |
| `compare`      | offsets           | both tokens                                   | logit of “in sync” [B] |
| `encode_video` | embeddings        | frames                                        | embedding [B, E]       |
| `encode_audio` | embeddings        | samples                                       | embedding [B, E]       |
| `classify`     | classes           | its streams' frames, samples; has_audio bool [B] | logits [B, classes] |

Where a network fuses early (Multisensory), a map is in the place of the pictures' tokens, [B, T', H', W', C']. Frames
are of the network's rate and crop, samples stereo of its rate, and both a clip long.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from ml_collections import FrozenConfigDict

from cmav.tasks.base import Classes, Embeddings, Offsets, Task

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


@dataclasses.dataclass(frozen=True)
class Function:
    """A function of the network.

    Attributes:
      call: (variables, *inputs) -> float32 array.
      inputs: shapes and types by name, without the batch's axis.
    """

    call: Callable[..., jax.Array]
    inputs: Mapping[str, jax.ShapeDtypeStruct]


def list_functions(task: Task, variables: Mapping[str, Any]) -> dict[str, Function]:
    """The functions of a task's network by name; none where it has no such ability. `variables` may be shapes."""
    if Offsets in task.abilities:
        return _of_offsets(task, variables)
    if Embeddings in task.abilities:
        return _of_embeddings(task)
    if Classes in task.abilities:
        given = _inputs(task)
        inputs = {stream: given[stream] for stream in task.streams}
        inputs["has_audio"] = jax.ShapeDtypeStruct((), jnp.bool_)

        def classify(variables, *arrays):
            batch = task.batch_of(**{"video": None, "audio": None, **dict(zip(inputs, arrays, strict=True))})
            return task.apply(variables, batch, train=False)[0]["logits"]

        return {"classify": Function(classify, inputs)}
    return {}


def as_programs(task: Task, variables: Mapping[str, Any]) -> dict[str, export.Exported]:
    """The functions with their weights as StableHLO, of any number of clips, for every platform of `PLATFORMS`.

    `jax.export.deserialize` reads what `serialize()` of each writes, and its `call` takes the inputs.
    """
    # No choice of one platform's convolutions.
    model_config = FrozenConfigDict({**task.model_config, "conv_lowering": "native", "remat": "none"})
    task, variables = dataclasses.replace(task, model_config=model_config), jax.device_get(variables)
    programs = {}
    for name, function in list_functions(task, variables).items():
        (batch,) = export.symbolic_shape("batch")
        shapes = [jax.ShapeDtypeStruct((batch, *x.shape), x.dtype) for x in function.inputs.values()]
        call = jax.jit(functools.partial(function.call, variables))
        programs[name] = export.export(call, platforms=PLATFORMS)(*shapes)
    return programs


def _inputs(task: Task) -> dict[str, jax.ShapeDtypeStruct]:
    clip, size = task.clip, task.data_config.crop_size
    return {
        "video": jax.ShapeDtypeStruct((clip.num_frames, size, size, 3), jnp.uint8),
        "audio": jax.ShapeDtypeStruct((clip.num_samples, 2), jnp.int16),
    }


def _of_offsets(task: Any, variables: Any) -> dict[str, Function]:
    def encode_video(variables, video_BxTxHxWxC):
        return task.encode_pictures(variables, video_BxTxHxWxC).astype(jnp.float32)

    def encode_audio(variables, audio_BxSx2):
        return task.encode_sound(variables, audio_BxSx2).astype(jnp.float32)

    def compare(variables, pictures_B, sounds_B):
        return task.pair_logits(variables, pictures_B, sounds_B[:, None])[:, 0]

    inputs = _inputs(task)
    encoders = {
        "encode_video": Function(encode_video, {"video": inputs["video"]}),
        "encode_audio": Function(encode_audio, {"audio": inputs["audio"]}),
    }
    tokens = {
        stream: jax.ShapeDtypeStruct(_one(encoders[f"encode_{stream}"], variables).shape[1:], jnp.float32)
        for stream in inputs
    }
    return {**encoders, "compare": Function(compare, tokens)}


def _of_embeddings(task: Any) -> dict[str, Function]:
    """Each stream by itself: of the other one there are zeros, of which its embedding knows nothing."""
    inputs = _inputs(task)

    def encode(stream, variables, given_B):
        arrays = {
            name: given_B if name == stream else jnp.zeros((given_B.shape[0], *x.shape), x.dtype)
            for name, x in inputs.items()
        }
        has_audio_B = jnp.ones(given_B.shape[:1], bool)
        outputs, _ = task.apply(variables, task.batch_of(**arrays, has_audio=has_audio_B), train=False)
        return dict(zip(inputs, task.embeddings(outputs), strict=True))[stream]

    return {
        f"encode_{stream}": Function(functools.partial(encode, stream), {stream: x}) for stream, x in inputs.items()
    }


def _one(function: Function, variables: Any) -> jax.ShapeDtypeStruct:
    """The result's shape for one clip."""
    ones = [jax.ShapeDtypeStruct((1, *x.shape), x.dtype) for x in function.inputs.values()]
    return jax.eval_shape(function.call, variables, *ones)
