"""Co-attention: the two streams look at each other, then each at itself. "Look, Listen, and Attend" (2020), Figure 3.

| config.model.attention | video stream's first block | audio stream's first block |
| ---------------------- | -------------------------- | -------------------------- |
| "cma"                  | guided by the audio (AGA)  | guided by the video (VGA)  |
| "aga"                  | guided by the audio        | self-attention             |
| "vga"                  | self-attention             | guided by the video        |

A guided block takes its queries, and with them its number of tokens, from the other stream. Every first block is
followed by self-attention. In the ablations a self-attention block stands where the guided one is missing, so that
all three have the 15M parameters of the paper's Table 1.
"""

import flax.linen as nn
import jax
from ml_collections import FrozenConfigDict

from cmav.models.attention import TransformerBlock

ATTENTIONS = ("cma", "aga", "vga")


class CoAttention(nn.Module):
    """`config.depth` co-attention modules in a row."""

    config: FrozenConfigDict

    @nn.compact
    def __call__(
        self, video_NxVxD: jax.Array, audio_NxAxD: jax.Array, *, train: bool
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        """Returns both streams and every block's tokens and weights.

        These are `<depth>/<stream>/<block>` [N, Q, D] and `<depth>/<stream>/<block>/weights` [N, heads, Q, K]. The
        stream is "video" or "audio", the block "guided" or "plain" (a module's first) or "self" (its second).
        """
        out = {}

        def block(depth, stream, kind, queries, context):
            x, weights = TransformerBlock(self.config, name=f"{depth}_{stream}_{kind}")(queries, context, train=train)
            out[f"{depth}/{stream}/{kind}"] = x
            out[f"{depth}/{stream}/{kind}/weights"] = weights
            return x

        video, audio = video_NxVxD, audio_NxAxD
        for depth in range(self.config.depth):
            attended_video = (
                block(depth, "video", "guided", audio, video)
                if self.config.attention in ("cma", "aga")
                else block(depth, "video", "plain", video, video)
            )
            attended_audio = (
                block(depth, "audio", "guided", video, audio)
                if self.config.attention in ("cma", "vga")
                else block(depth, "audio", "plain", audio, audio)
            )
            video = block(depth, "video", "self", attended_video, attended_video)
            audio = block(depth, "audio", "self", attended_audio, attended_audio)
        return video, audio, out
