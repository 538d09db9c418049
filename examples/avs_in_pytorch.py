"""An exported network of synchronization in PyTorch: reads `model.safetensors` and `config.json`, and needs no cmav.

    python examples/avs_in_pytorch.py my_network

For encoders "conv3d" and "conv1d", which the paper's network has. Its parts have the names of the tensors; what PyTorch
has in another order (kernels, channels) is turned when it is loaded.
"""

import json
import math
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

BATCH_NORM_EPSILON = 1e-3
SHORTEST_WAVE, LONGEST_WAVE = 1.0, 16.0  # seconds


def same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after, such that an axis of this length gives one output for each stride that begins in it."""
    total = max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2


def pad(x: torch.Tensor, kernel: list[int], stride: list[int]) -> torch.Tensor:
    """[B, C, *axes] with the zeros of `same_padding`."""
    pairs = [same_padding(*axis) for axis in zip(x.shape[2:], kernel, stride, strict=True)]
    return F.pad(x, [zeros for pair in reversed(pairs) for zeros in pair])


class ConvLayer(nn.Module):
    def __init__(self, channels: int, features: int, kernel: list[int], stride: list[int]):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.weight = nn.Parameter(torch.empty(features, channels, *kernel))
        self.norm = (nn.BatchNorm1d if len(kernel) == 1 else nn.BatchNorm3d)(features, eps=BATCH_NORM_EPSILON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv = F.conv1d if len(self.kernel) == 1 else F.conv3d
        return F.relu(self.norm(conv(pad(x, self.kernel, self.stride), self.weight, stride=self.stride)))


class AveragePool(nn.Module):
    """Of what is really there: zeros beyond the ends count neither in the sum nor in the number."""

    def __init__(self, kernel: list[int], stride: list[int]):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pool = F.avg_pool1d if len(self.kernel) == 1 else F.avg_pool3d
        there = torch.ones_like(x[:1, :1])
        means = [pool(pad(one, self.kernel, self.stride), self.kernel, self.stride) for one in (x, there)]
        return means[0] / means[1]


class Encoder(nn.Module):
    def __init__(self, layers: list, channels: int, hidden_size: int):
        super().__init__()
        self.sizes = []
        for number, (kind, *args) in enumerate(layers):
            kernel, stride = args[-2:]
            self.sizes.append((kernel, stride))
            if kind == "conv":
                layer, channels = ConvLayer(channels, args[0], kernel, stride), args[0]
            else:
                layer = AveragePool(kernel, stride)
            self.add_module(f"layer_{number}", layer)
        self.fc = nn.Linear(channels, hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, T, ...] -> tokens [B, N, D]."""
        for number in range(len(self.sizes)):
            x = getattr(self, f"layer_{number}")(x)
        return self.fc(x.flatten(3).mean(dim=3).mT if x.ndim > 3 else x.mT)

    def times(self, length: int, rate: float) -> np.ndarray:
        """Centre of each token's receptive field, in seconds after the first frame or sample."""
        centre, step = 0.0, 1
        for (kernel, *_), (stride, *_) in self.sizes:
            centre += step * ((kernel - 1) / 2 - same_padding(length, kernel, stride)[0])
            step *= stride
            length = math.ceil(length / stride)
        return (centre + step * np.arange(length)) / rate


class Attention(nn.Module):
    def __init__(self, size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value, self.out = (nn.Linear(size, size) for _ in range(4))

    def forward(self, queries: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        def heads(x):
            return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

        projected = heads(self.query(queries)), heads(self.key(context)), heads(self.value(context))
        return self.out(F.scaled_dot_product_attention(*projected).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, model: dict):
        super().__init__()
        size = model["hidden_size"]
        self.attention = Attention(size, model["num_heads"])
        self.attention_norm, self.mlp_norm = (nn.LayerNorm(size, eps=1e-6) for _ in range(2))
        self.mlp_hidden, self.mlp_out = nn.Linear(size, model["mlp_size"]), nn.Linear(model["mlp_size"], size)
        self.dropout = nn.Dropout(model["dropout"])

    def forward(self, queries: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        x = self.attention_norm(queries + self.dropout(self.attention(queries, context)))
        return self.mlp_norm(x + self.dropout(self.mlp_out(F.relu(self.mlp_hidden(x)))))


class CoAttention(nn.Module):
    def __init__(self, model: dict):
        super().__init__()
        self.depth = model["depth"]
        guided = {"cma": ("video", "audio"), "aga": ("video",), "vga": ("audio",)}[model["attention"]]
        self.first = {stream: "guided" if stream in guided else "plain" for stream in ("video", "audio")}
        for depth in range(self.depth):
            for stream, kind in self.first.items():
                self.add_module(f"{depth}_{stream}_{kind}", Block(model))
                self.add_module(f"{depth}_{stream}_self", Block(model))

    def forward(self, video: torch.Tensor, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for depth in range(self.depth):

            def attend(stream, own, other, depth=depth):
                kind = self.first[stream]
                x = getattr(self, f"{depth}_{stream}_{kind}")(other if kind == "guided" else own, own)
                return getattr(self, f"{depth}_{stream}_self")(x, x)

            video, audio = attend("video", video, audio), attend("audio", audio, video)
        return video, audio


class Backbone(nn.Module):
    def __init__(self, model: dict):
        super().__init__()
        self.video_encoder = Encoder(model["video"]["layers"], 3, model["hidden_size"])
        self.audio_encoder = Encoder(model["audio"]["layers"], 2, model["hidden_size"])
        self.co_attention = CoAttention(model)


def resize_matrix(before: int, after: int) -> torch.Tensor:
    """[after, before]: linear interpolation between centres, and a mean with triangular weights where it gets fewer."""
    scale = before / after
    centres = (np.arange(after) + 0.5) * scale - 0.5
    weights = np.maximum(0, 1 - abs(np.arange(before) - centres[:, None]) / max(scale, 1))
    return torch.tensor(weights / weights.sum(axis=1, keepdims=True))


class Head(nn.Module):
    def __init__(self, model: dict):
        super().__init__()
        self.num_tokens = model["fusion_tokens"] if model["fusion"] == "flatten" else 0
        inputs = 2 * model["hidden_size"] * max(self.num_tokens, 1)
        self.hidden, self.logit = nn.Linear(inputs, model["fusion_size"]), nn.Linear(model["fusion_size"], 1)
        if model["fusion_moments"]:
            self.log_moments_factor = nn.Parameter(torch.zeros(()))

    def forward(self, video: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        def as_vector(x):
            if not self.num_tokens:
                return x.mean(dim=1)
            return (resize_matrix(x.shape[1], self.num_tokens).to(x) @ x).flatten(1)

        hidden = F.relu(self.hidden(torch.cat([as_vector(video), as_vector(audio)], dim=-1)))
        return self.logit(hidden)[:, 0]


class AvsNet(nn.Module):
    """Do pictures and sound belong to the same moment? Made of a `config.json`."""

    def __init__(self, config: dict):
        super().__init__()
        self.model, data = config["model"], config["data"]
        names = self.model["video"]["name"], self.model["audio"]["name"]
        if config["task"] != "avs" or names != ("conv3d", "conv1d") or self.model["positions"] == "learned":
            raise ValueError(f"task {config['task']!r} with encoders {names} is not what this example reads")
        # As many frames as the last phase of training has.
        stride = max(1, round(data["stored_frame_rate"] / config["phases"][-1]["frame_rate"]))
        self.frame_rate, self.sample_rate = data["stored_frame_rate"] / stride, data["sample_rate"]
        self.num_frames = math.ceil(math.ceil(data["clip_seconds"] * data["stored_frame_rate"] - 1e-6) / stride)
        self.num_samples = round(data["clip_seconds"] * self.sample_rate)
        self.crop_size = data["crop_size"]
        self.backbone, self.head = Backbone(self.model), Head(self.model)

    def encode_video(self, frames: torch.Tensor) -> torch.Tensor:
        """uint8 [B, T, H, W, 3] -> tokens [B, N, D]."""
        return self.backbone.video_encoder((frames.float() / 127.5 - 1).movedim(-1, 1))

    def encode_audio(self, samples: torch.Tensor) -> torch.Tensor:
        """int16 [B, S, 2] -> tokens [B, M, D]."""
        x = samples.float() / 32768
        if self.model["audio"]["companding"] == "mu_law":
            x = x.sign() * torch.log1p(255 * x.abs()) / math.log(256)
        return self.backbone.audio_encoder(x.mT)

    def compare(self, video: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        """Tokens of clips and of sounds, [B, N, D] and [B, M, D] -> logits of “in sync” [B]."""
        video_times = self.backbone.video_encoder.times(self.num_frames, self.frame_rate)
        audio_times = self.backbone.audio_encoder.times(self.num_samples, self.sample_rate)
        attended = self.backbone.co_attention(self._placed(video, video_times), self._placed(audio, audio_times))
        logits = self.head(*attended)
        if not self.model["fusion_moments"]:
            return logits
        evidence = moment_evidence(video, audio, video_times, audio_times, self.model["fusion_moments"])
        return logits + self.head.log_moments_factor.exp() * evidence

    def forward(self, frames: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        """uint8 [B, T, H, W, 3] and int16 [B, K, S, 2] -> logits [B, K]: of each clip with each of its K sounds."""
        count = samples.shape[1]
        video = self.encode_video(frames).repeat_interleave(count, dim=0)
        return self.compare(video, self.encode_audio(samples.flatten(0, 1))).unflatten(0, (-1, count))

    def _placed(self, tokens: torch.Tensor, times: np.ndarray) -> torch.Tensor:
        if self.model["positions"] == "none":
            return tokens
        wavelengths = np.geomspace(SHORTEST_WAVE, LONGEST_WAVE, tokens.shape[-1] // 2)
        angles = 2 * np.pi * times[:, None] / wavelengths
        return tokens + torch.tensor(np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)).to(tokens)


def moment_evidence(
    video: torch.Tensor, audio: torch.Tensor, video_times: np.ndarray, audio_times: np.ndarray, temperature: float
) -> torch.Tensor:
    """By how much likelier than by chance each moment's sound is told from the clip's others, in nats, [B]."""

    def unit(x):
        return x / (x.square().sum(dim=-1, keepdim=True) + 1e-6).sqrt()

    logits = unit(video) @ unit(audio).mT / temperature
    distance = torch.tensor(abs(video_times[:, None] - audio_times)).to(logits)
    both = ((logits, distance.argmin(dim=1)), (logits.mT, distance.argmin(dim=0)))
    return sum(
        math.log(x.shape[2]) - F.cross_entropy(x.mT, nearest.expand(len(x), -1), reduction="none").mean(dim=1)
        for x, nearest in both
    ) / len(both)


def as_state(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of `model.safetensors` by the names, and in the order, that the modules above have."""
    names = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    state = {}
    for name, tensor in tensors.items():
        path, _, last = name.partition(".")[2].rpartition(".")
        if last == "kernel":  # [*kernel, in, out] -> [out, in, *kernel]
            tensor = tensor.movedim((-1, -2), (0, 1)).contiguous()
        state[f"{path}.{names.get(last, last)}"] = tensor
    return state


def load(folder: str) -> AvsNet:
    """The network of an exported folder, to evaluate with."""
    config = json.loads(pathlib.Path(folder, "config.json").read_text())
    network = AvsNet(config)
    missing, unknown = network.load_state_dict(as_state(load_file(pathlib.Path(folder, "model.safetensors"))), False)
    wrong = [*unknown, *(name for name in missing if not name.endswith("num_batches_tracked"))]
    if wrong:
        raise ValueError(f"{folder}: {', '.join(wrong)} do not fit")
    return network.eval()


if __name__ == "__main__":
    loaded = load(sys.argv[1])
    clip = torch.zeros(1, loaded.num_frames, loaded.crop_size, loaded.crop_size, 3, dtype=torch.uint8)
    sound = torch.zeros(1, 1, loaded.num_samples, 2, dtype=torch.int16)
    count = sum(parameter.numel() for parameter in loaded.parameters())
    print(f"{count:,} parameters; of a black clip with a silent sound it says {loaded(clip, sound).item():.4f}")
