"""Where in the picture is the sound? Four answers of a network that only learned what is in sync.

All read the video encoder's last map, and rest on what follows it: a mean over space and a linear layer. Whatever is
linear in the mean is the mean of what it is at each location.

| method       | a location's value                                                                               |
| ------------ | ------------------------------------------------------------------------------------------------ |
| `cam`        | what it does for the logit: T'H'W' Σ_c A_c ∂logit/∂A_c, where A is the map                        |
| `attention`  | for each head: how much it draws to its moment the attention of what is heard, and only of that   |
| `similarity` | cosine of its embedding, the linear layer's output there, with the audio's token of the same time |
| `alignment`  | what it adds to its moment being more like the sound of the same time than like the clip's others |

Each is a function of the network, its variables and its intermediates (the second result of `AvsNet`), and returns
float32 maps [B, K, T', H', W'], one for each of a clip's K audios; `attention` has an axis of heads after K. Maps have
a sign: what is above 0 speaks for the sound, `jax.nn.relu` of the map is this part alone. They are computed in
float32, on TPUs and GPUs too, apart from `cam`'s gradient, which is the network's own. Under jit, call the network and
the method in one function: the tokens' times must be numbers.

Shape suffixes: B clips, K audios, T times of the map, H and W its rows and columns, C channels, M audio tokens,
D hidden size, A heads, E size of a head, Q queries.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from cmav.models.positions import AddPositions
from cmav.models.precision import float32_einsum

NORM_EPSILON = 1e-6


def class_activation(logits_of: Callable[[jax.Array], jax.Array], map_BxTxHxWxC: jax.Array) -> jax.Array:
    """T'H'W' Σ_c A_c ∂logit/∂A_c at each location of a map A, for each of K logits.

    To first order, its mean over the map is what the logit would lose if the map were dimmed to zero. Where the head
    is a mean over all locations and a linear layer with weights w, the gradient is w_c / T'H'W' everywhere, and this is
    Σ_c w_c A_c: the CAM of Zhou et al., "Learning Deep Features for Discriminative Localization" (2016). Of Grad-CAM
    (Selvaraju et al. 2017) it differs in that gradients are not averaged over locations, and keep their scale; as
    HiResCAM (Draelos & Carin 2020). In `AvsNet` they are the same throughout space, but differ between moments. What a
    head that compares moments adds (`config.fusion_moments`) depends on where tokens point, not on how long they are:
    its part is about 0 in the mean over space, and shows what speaks for and against, not how much there is of it.

    Args:
      logits_of: [B, T', H', W', C'] -> [B, K], where the clips of a batch do not depend on each other.
      map_BxTxHxWxC: where the gradient is taken.

    Returns:
      float32 [B, K, T', H', W'].
    """
    logits_BxK, pull_back = jax.vjp(logits_of, map_BxTxHxWxC)
    one_audio_KxBxK = jnp.repeat(jnp.eye(logits_BxK.shape[1])[:, None], len(logits_BxK), axis=1)
    (gradients_KxBxTxHxWxC,) = jax.vmap(pull_back)(one_audio_KxBxK.astype(logits_BxK.dtype))
    activation = float32_einsum("kbthwc,bthwc->bkthw", gradients_KxBxTxHxWxC, map_BxTxHxWxC)
    return math.prod(map_BxTxHxWxC.shape[1:-1]) * activation


def attention(net: Any, variables: Mapping[str, Any], outputs: Mapping[str, Any]) -> jax.Array:
    """How much each location draws each head's audio-guided attention, [B, K, heads, T', H', W'].

    Of the logits at each location (`attention_logits`) the mean over the queries, the audio's tokens: at each moment
    weighted by how much they attend to it, as softmax has it. Two things are taken off first. What all queries of a
    clip have in common is not guided by what is heard: it would be the same for another sound. And softmax does not
    see what is added to all logits of a query, so each query's are relative to their mean over time and space. In nats.
    `combine_heads` makes one map of the heads'.
    """
    logits = attention_logits(net, variables, outputs)
    attends_BxKxAxQxT = jax.nn.log_softmax(logits.mean(axis=(-2, -1)), axis=-1)
    shares_BxKxAxQxT = jax.nn.softmax(attends_BxKxAxQxT, axis=-2)
    guided = logits - logits.mean(axis=3, keepdims=True)
    relative = guided - guided.mean(axis=(-3, -2, -1), keepdims=True)
    return float32_einsum("bkaqt,bkaqthw->bkathw", shares_BxKxAxQxT, relative)


def attention_logits(net: Any, variables: Mapping[str, Any], outputs: Mapping[str, Any]) -> jax.Array:
    """Query · key / √E at each location, for the first audio-guided block: [B, K, heads, Q, T', H', W'].

    A location's key is the key of a token that has this location's value in place of the mean over space. From map to
    key all is linear, so that the mean over space is exactly the network's own logit, before its softmax over time.
    """
    config, params = net.config, variables["params"]["backbone"]
    block = params["co_attention"]["0_video_guided"]["attention"]

    def project(name, x):
        x = _linear(block[name], x)
        return x.reshape(*x.shape[:-1], config.num_heads, -1)

    video = _embed(params, outputs) + _positions(config, params, "video", outputs["video/times"])[:, None, None]
    audio = outputs["audio/tokens"].astype(jnp.float32) + _positions(config, params, "audio", outputs["audio/times"])
    q_BxKxQxAxE, k_BxTxHxWxAxE = project("query", audio), project("key", video)
    return float32_einsum("bkqae,bthwae->bkaqthw", q_BxKxQxAxE, k_BxTxHxWxAxE) / q_BxKxQxAxE.shape[-1] ** 0.5


def combine_heads(maps_BxKxAxTxHxW: jax.Array) -> jax.Array:
    """Mean over heads of what draws each: [B, K, T', H', W'], not negative.

    Only positive parts count: what one head finds is not taken away by another that looks elsewhere.
    """
    return jax.nn.relu(maps_BxKxAxTxHxW).mean(axis=2)


def similarity(
    net: Any, variables: Mapping[str, Any], outputs: Mapping[str, Any], *, whole_clip: bool = False
) -> jax.Array:
    """Cosine of each location's embedding with the audio's, -1 to 1, before positions and attention.

    The audio's is its token nearest in time, as in the temporal alignment loss; with `whole_clip`, the mean of all.
    """
    del net
    video_BxTxHxWxD = _unit(_embed(variables["params"]["backbone"], outputs))
    audio_BxKxMxD = outputs["audio/tokens"].astype(jnp.float32)
    if whole_clip:
        audio_BxKxMxD = audio_BxKxMxD.mean(axis=2, keepdims=True)
        nearest_T = np.zeros(video_BxTxHxWxD.shape[1], int)
    else:
        nearest_T = _nearest_audio(outputs)
    audio_BxKxTxD = _unit(audio_BxKxMxD)[:, :, nearest_T]
    return float32_einsum("bthwd,bktd->bkthw", video_BxTxHxWxD, audio_BxKxTxD)


def alignment(net: Any, variables: Mapping[str, Any], outputs: Mapping[str, Any]) -> jax.Array:
    """How much each location speaks for the sound of its own moment and against the clip's others, [B, K, T', H', W'].

    The dot product of its embedding with the audio's token of the same time, at length 1, less the mean of those with
    all of the clip's audio tokens. From map to embedding all is linear, so that its mean over space is exactly this
    difference of the video's token: what the temporal alignment loss makes large. What does not change while the sound
    does is below 0 as often as above, and where all moments sound alike, as in silence, all is 0. In units of the
    tokens.
    """
    del net
    video_BxTxHxWxD = _embed(variables["params"]["backbone"], outputs)
    audio_BxKxMxD = _unit(outputs["audio/tokens"].astype(jnp.float32))
    own_BxKxTxD = audio_BxKxMxD[:, :, _nearest_audio(outputs)] - audio_BxKxMxD.mean(axis=2, keepdims=True)
    return float32_einsum("bthwd,bktd->bkthw", video_BxTxHxWxD, own_BxKxTxD)


@dataclasses.dataclass(frozen=True)
class MapMethod:
    """One way in which a network says where the sound is.

    Attributes:
      meaning: what a map shows, for people: a sentence, or two.
      find: (network, variables, outputs) -> float32 [B, K, T', H', W']; with `by_heads` [B, K, heads, T', H', W'].
      by_heads: whether each head has a map of its own; `combine_heads` makes one of them.
      needs_alignment: whether it only means something of a network whose tokens training compared: by the temporal
        alignment loss, or by a head that compares moments.
    """

    meaning: str
    find: Callable[[Any, Mapping[str, Any], Mapping[str, Any]], jax.Array]
    by_heads: bool = False
    needs_alignment: bool = False


ATTENTION = MapMethod(
    "how much each place draws the attention of the sound to its moment. The network has several attention heads, each "
    "with a map of its own; this is their combination.",
    attention,
    by_heads=True,
)
SIMILARITY = MapMethod(
    "how alike the network finds what is at a place and what is heard at the time.", similarity, needs_alignment=True
)
ALIGNMENT = MapMethod(
    "how much each place speaks for the sound of its own moment, and against those of the clip's other moments. What "
    "stays as it is while the sound changes speaks for nothing.",
    alignment,
    needs_alignment=True,
)


def of_backbone(config: FrozenConfigDict) -> dict[str, MapMethod]:
    """The methods that ask a backbone of these settings alone."""
    guided = {"attention": ATTENTION} if has_guided_attention(config) else {}
    return {**guided, "similarity": SIMILARITY, "alignment": ALIGNMENT}


def has_guided_attention(config: FrozenConfigDict) -> bool:
    """Whether the network of `config.model` has attention of the picture that the audio guides."""
    return bool(config.depth) and config.attention in ("cma", "aga")


def upsample(maps: jax.Array, size: tuple[int, int], centres: tuple[np.ndarray, np.ndarray] | None = None) -> jax.Array:
    """[..., H', W'] -> [..., height, width], bilinear between the locations' centres, constant outside of them.

    Args:
      maps: of any leading axes.
      size: height and width of the picture, in pixels; it may differ from what the network saw.
      centres: of rows and columns, from 0 to 1 (`VideoEncoder.places`); None: of H'×W' equal cells.
    """

    def weights(length, num_locations, centres):
        pixels = (np.arange(length) + 0.5) / length
        if centres is None:
            centres = (np.arange(num_locations) + 0.5) / num_locations
        return np.stack([np.interp(pixels, centres, one) for one in np.eye(num_locations)], axis=-1)

    rows, columns = map(weights, size, maps.shape[-2:], centres or (None, None))
    return float32_einsum("yh,...hw,xw->...yx", rows, maps, columns)


def _nearest_audio(outputs: Mapping[str, Any]) -> np.ndarray:
    """For each time of the map, [T'], which of the audio's tokens is nearest."""
    return abs(outputs["video/times"][:, None] - outputs["audio/times"][None]).argmin(axis=1)


def _embed(backbone: Mapping[str, Any], outputs: Mapping[str, Any]) -> jax.Array:
    """What the encoder's linear layer makes of each location: float32 [B, T', H', W', D]."""
    return _linear(backbone["video_encoder"]["fc"], outputs["video/map"])


def _positions(config: FrozenConfigDict, backbone: Mapping[str, Any], stream: str, times: np.ndarray) -> jax.Array:
    """What is added to the tokens of a stream: float32 [tokens, D]."""
    params = backbone.get(f"{stream}_positions", {})
    return AddPositions(config).apply({"params": params}, jnp.zeros((1, len(times), config.hidden_size)), times)[0]


def _linear(params: Mapping[str, Any], x: jax.Array) -> jax.Array:
    return float32_einsum("...c,cd->...d", x.astype(jnp.float32), params["kernel"]) + params["bias"]


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), NORM_EPSILON)
