"""Contrast of whole clips: InfoNCE over the global batch, a memory of past clips, how spread out embeddings are.

Pure functions, float32. Embeddings [B, D] of video and audio are of the same clips in the same order; every function
brings them to length 1 itself (`alignment.normalise`), so that similarities are cosines. `weight_B` is 1 for a row that
counts and 0 for one that does not (padding, a clip without sound): such a row is neither anchor nor negative, never
enters the memory, and whatever stands in it changes nothing; where all are such, losses are 0.

Over several devices nothing is asked of the caller but a batch that is sharded on its first axis under `jax.jit`: every
product below has the anchors as its rows, so the compiler gathers the embeddings ([B, D]) and each device holds only
its own [B / devices, B] rows of similarities. Both directions are therefore products of their own, although one is the
other's transpose. `tests/tasks/test_contrast.py` reads in the compiled program that no [B, B] is there. Temporary
memory of loss, gradient, diagnostics and `enqueue` at a global batch of 4,096 with D = 128, compiled by jax 0.10.2 for
CPU devices (a [4096, 4096] of float32 is 67 MB):

| negatives, queue                    | one device | each of 32 |
| ----------------------------------- | ---------- | ---------- |
| "none", no queue                    | 617 MB     | 27 MB      |
| "within", no queue                  | 751 MB     | 36 MB      |
| "within" or "separate", 4,096 clips | 1,485 MB   | 57 MB      |
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from cmav.models.alignment import normalise
from cmav.models.precision import float32_einsum

NEGATIVES = ("none", "within", "separate")
CONSISTENCIES = ("kl", "l2")

# The spread below which embeddings have collapsed. It is at most √(1 - ‖mean‖²), so it is below 0.1 wherever two clips
# drawn at random have a mean cosine above 0.99; and also where all but a few of many dimensions stand still.
COLLAPSED_SPREAD = 0.1
# The likeness of different clips above which they have, on a line: embeddings that are standardised over the batch are
# always spread, but may have a single dimension.
COLLAPSED_RMS_COSINE = 0.95

Queue = dict[str, jax.Array]

_NOTHING = -1e30  # the logarithm of no negatives; finite, so that no step of a gradient is 0 / 0


def info_nce(
    video_BxD: jax.Array,
    audio_BxD: jax.Array,
    *,
    temperature: float | jax.Array,
    negatives: str = "within",
    within_weight: float = 1.0,
    queue: Queue | None = None,
    weight_B: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """InfoNCE (van den Oord et al. 2018, equation 4) from video to audio and from audio to video.

    The video of clip i has as its positive the audio of clip i, p = v_i·a_i / temperature. Its loss is
    -log(e^p / (e^p + Σ e^n)) over its negatives n; likewise for the audio. Which negatives there are is ours:

      none: the other modality's embeddings of all other clips of the batch, v_i·a_j / temperature, j ≠ i.
      within: those, and in the same sum the own modality's, v_i·v_j / temperature, j ≠ i.
      separate: the two losses as in "none", and two more, video to video and audio to audio. As there is one view of a
        clip, their positive too is the clip's pair across modalities, and only their negatives are the own modality's.

    Each loss is a mean over the clips; the two directions are averaged, and so are the two more, which
    `within_weight` multiplies.

    Args:
      temperature: above 0; it may be learned (the exponential of a parameter, say).
      queue: past clips, negatives wherever the batch's other clips of that modality are. They get no gradient.

    Returns:
      The loss, and its parts: `video_to_audio_loss`, `audio_to_video_loss`; with "separate" also
      `video_to_video_loss` and `audio_to_audio_loss`.

    Raises:
      ValueError: for `negatives` that are not in `NEGATIVES`.
    """
    if negatives not in NEGATIVES:
        raise ValueError(f"negatives={negatives!r} is not known: choose one of {', '.join(NEGATIVES)}.")
    unit, weight_B = _unit(video_BxD, audio_BxD, weight_B)
    positive_B = float32_einsum("bd,bd->b", unit["video"], unit["audio"]) / temperature
    pools = [(unit, _others(weight_B))]
    if queue is not None:
        pools.append((jax.lax.stop_gradient(queue), queue["weight"] > 0))

    def log_sum(anchor_BxD: jax.Array, keys_KxD: jax.Array, is_negative: jax.Array) -> jax.Array:
        scores_BxK = float32_einsum("bd,kd->bk", anchor_BxD, keys_KxD) / temperature
        return jax.nn.logsumexp(jnp.where(is_negative, scores_BxK, _NOTHING), axis=1)

    def loss_of(anchor: str, *others: str) -> jax.Array:
        sums = [log_sum(unit[anchor], keys[other], is_negative) for keys, is_negative in pools for other in others]
        return _mean(jax.nn.softplus(functools.reduce(jnp.logaddexp, sums) - positive_B), weight_B)

    within = negatives == "within"
    metrics = {
        "video_to_audio_loss": loss_of("video", "audio", *(["video"] if within else [])),
        "audio_to_video_loss": loss_of("audio", "video", *(["audio"] if within else [])),
    }
    loss = sum(metrics.values()) / 2
    if negatives == "separate":
        more = {"video_to_video_loss": loss_of("video", "video"), "audio_to_audio_loss": loss_of("audio", "audio")}
        loss, metrics = loss + within_weight * sum(more.values()) / 2, {**metrics, **more}
    return loss, metrics


def queue_init(size: int, dim: int) -> Queue:
    """An empty memory of clips: `video` and `audio` float32 [size, dim], `weight` float32 [size], 0 where it is empty.

    Its clips were embedded by the network as it then was, and one of them may be in the batch again: keep it shorter
    than an epoch.
    """
    return {"video": jnp.zeros((size, dim)), "audio": jnp.zeros((size, dim)), "weight": jnp.zeros(size)}


def enqueue(queue: Queue, video_BxD: jax.Array, audio_BxD: jax.Array, weight_B: jax.Array | None = None) -> Queue:
    """The memory with a batch added: the newest `size` clips that count, the newest last, each at length 1."""
    unit, weight_B = _unit(video_BxD, audio_BxD, weight_B)
    rows = {"video": unit["video"], "audio": unit["audio"], "weight": weight_B}
    rows = {key: jnp.concatenate([queue[key], jax.lax.stop_gradient(x)]) for key, x in rows.items()}
    order = jnp.argsort(rows["weight"], stable=True)[-len(queue["weight"]) :]  # Empty rows first, then by age.
    return {key: x[order] for key, x in rows.items()}


def consistency(
    target_logits: jax.Array, pure_logits: jax.Array, kind: str = "kl", weight_B: jax.Array | None = None
) -> jax.Array:
    """How far a distribution over places is from its target. Ours: of CMAC only the abstract could be had.

    Args:
      target_logits: [B, ..., places]; its softmax over places is the target. It gets no gradient.
      pure_logits: the same shape; its softmax is what is to agree.
      kind: "kl" is KL(target ‖ pure) = Σ t·log(t / p), "l2" is Σ (t - p)², both summed over places.

    Returns:
      The mean over all axes but the last. A row of weight 0 is left out.

    Raises:
      ValueError: for a `kind` that is not in `CONSISTENCIES`.
    """
    if kind not in CONSISTENCIES:
        raise ValueError(f"kind={kind!r} is not known: choose one of {', '.join(CONSISTENCIES)}.")
    weight_B = _weights(weight_B, len(target_logits))

    def log_softmax(logits: jax.Array) -> jax.Array:
        counts = weight_B.reshape(-1, *[1] * (logits.ndim - 1)) > 0
        return jax.nn.log_softmax(jnp.where(counts, logits.astype(jnp.float32), 0))

    target, pure = jax.lax.stop_gradient(log_softmax(target_logits)), log_softmax(pure_logits)
    each = jnp.exp(target) * (target - pure) if kind == "kl" else (jnp.exp(target) - jnp.exp(pure)) ** 2
    return _mean(each.sum(axis=-1).reshape(len(each), -1).mean(axis=1), weight_B)


def diagnostics(video_BxD: jax.Array, audio_BxD: jax.Array, weight_B: jax.Array | None = None) -> dict[str, jax.Array]:
    """What a batch's embeddings look like. No gradient flows.

    Returns:
      Scalars, of the clips that count:
        rows: how many those are.
        positive_cosine: mean of v_i·a_i.
        alignment: mean of ‖v_i - a_i‖², 0 to 4 (Wang & Isola 2020, with α = 2).
        video_uniformity, audio_uniformity: log of the mean of exp(-2 ‖x_i - x_j‖²) over i ≠ j (there too, with t = 2):
          0 where all are one point, lower where they are spread.
        video_spread, audio_spread: mean over dimensions of the standard deviation, times √D: 1 where clips are spread
          evenly over the sphere, 0 where all are one point.
        video_rms_cosine, audio_rms_cosine: root of the mean square of x_i·x_j over i ≠ j: 1/√D where clips are spread
          evenly, 1 where all are on one line, which the spread does not show.
        video_to_audio_top1, audio_to_video_top1: share of clips that are more like their own partner than like any
          other's. A tie is a miss.
    """
    unit, weight_B = _unit(jax.lax.stop_gradient(video_BxD), jax.lax.stop_gradient(audio_BxD), weight_B)
    is_same_BxB, is_other_BxB = jnp.eye(len(weight_B), dtype=bool), _others(weight_B)
    metrics = {
        "rows": weight_B.sum(),
        "positive_cosine": _mean(float32_einsum("bd,bd->b", unit["video"], unit["audio"]), weight_B),
        "alignment": _mean(((unit["video"] - unit["audio"]) ** 2).sum(axis=1), weight_B),
    }
    num_pairs = weight_B.sum() * (weight_B.sum() - 1)
    for key, other in (("video", "audio"), ("audio", "video")):
        x_BxD = unit[key]
        cosine_BxB = float32_einsum("bd,kd->bk", x_BxD, x_BxD)
        nearness_B = jnp.where(is_other_BxB, jnp.exp(4 * cosine_BxB - 4), 0).sum(axis=1)
        nearness = (weight_B * nearness_B).sum() / jnp.maximum(num_pairs, 1)
        metrics[f"{key}_uniformity"] = jnp.log(jnp.where(num_pairs > 0, nearness, 1))
        square = jnp.where(is_other_BxB, cosine_BxB**2, 0).sum(axis=1)
        metrics[f"{key}_rms_cosine"] = jnp.sqrt((weight_B * square).sum() / jnp.maximum(num_pairs, 1))
        centred_BxD = x_BxD - _mean(x_BxD, weight_B)
        metrics[f"{key}_spread"] = jnp.sqrt(_mean(centred_BxD**2, weight_B)).mean() * x_BxD.shape[1] ** 0.5
        across_BxB = float32_einsum("bd,kd->bk", x_BxD, unit[other])
        positive_B = jnp.where(is_same_BxB, across_BxB, 0).sum(axis=1)
        is_first_B = positive_B > jnp.where(is_other_BxB, across_BxB, -jnp.inf).max(axis=1)
        metrics[f"{key}_to_{other}_top1"] = _mean(is_first_B.astype(jnp.float32), weight_B)
    return metrics


def has_collapsed(metrics: Mapping[str, float]) -> bool:
    """Whether all clips have nearly the same embedding in a modality, or one of two opposite ones; by `diagnostics`.

    A fresh network may start so; it is a failure where it lasts. One clip alone says nothing.
    """
    spread = min(metrics["video_spread"], metrics["audio_spread"])
    alike = max(metrics["video_rms_cosine"], metrics["audio_rms_cosine"])
    return bool(metrics["rows"] > 1 and (spread < COLLAPSED_SPREAD or alike > COLLAPSED_RMS_COSINE))


def _unit(
    video_BxD: jax.Array, audio_BxD: jax.Array, weight_B: jax.Array | None
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Both at length 1, 0 in rows that do not count (where a NaN would else outlive its weight of 0); the weights."""
    weight_B = _weights(weight_B, len(video_BxD))
    embeddings = {"video": video_BxD, "audio": audio_BxD}
    return {key: normalise(jnp.where(weight_B[:, None] > 0, x, 0)) for key, x in embeddings.items()}, weight_B


def _weights(weight_B: jax.Array | None, batch_size: int) -> jax.Array:
    return jnp.ones(batch_size) if weight_B is None else weight_B.astype(jnp.float32)


def _others(weight_B: jax.Array) -> jax.Array:
    """Bool [B, B]: which clips each row is compared with; never itself."""
    return ~jnp.eye(len(weight_B), dtype=bool) & (weight_B > 0)[None, :]


def _mean(x_B: jax.Array, weight_B: jax.Array) -> jax.Array:
    """The mean over rows that count, 0 where there are none; of [B] or [B, D]."""
    return float32_einsum("b...,b->...", x_B, weight_B) / jnp.maximum(weight_B.sum(), 1)
