"""Co-attention: the two streams look at each other, then each at itself. "Look, Listen, and Attend" (2020), Figure 3.

| config.model.attention | video stream's first block | audio stream's first block |
| ---------------------- | -------------------------- | -------------------------- |
| "cma"                  | guided by the audio (AGA)  | guided by the video (VGA)  |
| "aga"                  | guided by the audio        | self-attention             |
| "vga"                  | self-attention             | guided by the video        |

A guided block takes its queries, and with them its number of tokens, from the other stream. Every first block is
followed by self-attention. In the ablations a self-attention block stands where the guided one is missing, so that
all three have the 15M parameters of the paper's Table 1.

A stream may also be alone: the other's activation is zero, and guided attention becomes self-attention with the same
weights, by "modify[ing] the queries Q_v in the video streams to the intermediate video features F_v" (section 5.2).
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
        self, video_NxVxD: jax.Array | None, audio_NxAxD: jax.Array | None, *, train: bool
    ) -> tuple[jax.Array | None, jax.Array | None, dict[str, jax.Array]]:
        """Returns both streams and every block's tokens and weights. A stream that is None leaves the other alone.

        These are `<depth>/<stream>/<block>` [N, Q, D] and `<depth>/<stream>/<block>/weights` [N, heads, Q, K]. The
        stream is "video" or "audio", the block "guided" or "plain" (a module's first) or "self" (its second).
        """
        out = {}

        def block(depth, stream, kind, queries, context):
            x, weights = TransformerBlock(self.config, name=f"{depth}_{stream}_{kind}")(queries, context, train=train)
            out[f"{depth}/{stream}/{kind}"] = x
            out[f"{depth}/{stream}/{kind}/weights"] = weights
            return x

        attention = self.config.attention
        first_block = {
            "video": "guided" if attention in ("cma", "aga") else "plain",
            "audio": "guided" if attention in ("cma", "vga") else "plain",
        }
        tokens = {"video": video_NxVxD, "audio": audio_NxAxD}
        for depth in range(self.config.depth):
            attended = {}
            for stream, other in (("video", "audio"), ("audio", "video")):
                own = tokens[stream]
                if own is None:
                    continue
                is_guided = first_block[stream] == "guided" and tokens[other] is not None
                attended[stream] = block(depth, stream, first_block[stream], tokens[other] if is_guided else own, own)
            for stream, x in attended.items():
                tokens[stream] = block(depth, stream, "self", x, x)
        return tokens["video"], tokens["audio"], out
