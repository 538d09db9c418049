"""How long a training step takes, beside PyTorch with a network that was written on its own.

    python -m benchmarks.step [--config configs/avs_cma.py] [--batch 4] [--frames 32] [--size 112] [--json step.json]
    python -m benchmarks.step --frames 126 --size 224 --batch 8 --dtype bfloat16 --compile     # on a GPU

Both have the network of the config with the same weights (`examples/avs_in_pytorch.py`), and see the same batch: clips
of so many frames, each with a sound of the same length and a shifted one. Outputs and gradients are compared first;
where they differ by more than rounding, nothing is timed. Then steps of both alternate: forward, loss, backward and
SGD. PyTorch (`pip install -e '.[torch]'`) is taken as it is fastest: in either layout, and with `--compile` as
`torch.compile` makes it.

`speed_vs_torch` is how many times as many clips a second; `mfu` what share of this machine's matrix products, as fast
as they were measured in the same run, the network's operations take (three times the forward pass); `peak_bytes` what
the compiler has planned for the step.
"""

import argparse
import runpy
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch._dynamo  # Before TensorFlow: loaded after its LLVM, Triton's ends the process.
from etils import epath

from benchmarks import measuring
from cmav import distributed, presets
from cmav.tasks import Task, make_task
from cmav.training import run_config, weights
from cmav.training.costs import forward_flops
from cmav.training.optim import make_optimizer, make_schedule
from cmav.training.step import TrainState, train_step
from cmav.trees import flatten
from examples import avs_in_pytorch

TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2}  # of outputs; of gradients ten times as much, relative to the greatest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/avs_cma.py", help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=4, help="clips (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=32, help="of a clip (default: %(default)s)")
    parser.add_argument("--size", type=int, default=112, help="of pictures, in pixels (default: %(default)s)")
    parser.add_argument("--dtype", choices=TOLERANCES, default="float32", help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=7, help="steps of each (default: %(default)s)")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    args = parser.parse_args()
    task, config = small_task(args.config, args.frames, args.size, args.dtype)
    variables = jax.jit(task.init)(jax.random.key(0))
    batch = random_batch(task, args.batch)
    layouts = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last_3d}
    peers = {name: Peer(config, variables, batch, args.dtype, layout) for name, layout in layouts.items()}
    ours = Ours(task, config, variables, batch)
    difference = compare(ours, peers["contiguous"], args.dtype)
    if args.compile:
        for name, layout in layouts.items():
            peers[f"{name}, compiled"] = Peer(config, variables, batch, args.dtype, layout, compiled=True)
    seconds = alternate({"cmav": ours.step, **{name: peer.step for name, peer in peers.items()}}, args.repeats)
    results = report(args, task, seconds, ours, difference)
    measuring.write(args.json, results)
    return 0


def small_task(config_name: str, frames: int, size: int, dtype: str) -> tuple[Task, Any]:
    """The task of the config's last phase, with clips of this many frames and pictures of this size, and its config."""
    config = runpy.run_path(presets.resolve(config_name))["get_config"]()
    stored = config.data.stored_frame_rate
    config.data.clip_seconds = frames * round(stored / config.phases[-1]["frame_rate"]) / stored
    config.data.crop_size, config.model.dtype, config.model.dropout = size, dtype, 0.0
    config.phases, config.loss.alignment_weight = (config.phases[-1],), 0.0  # which PyTorch has not
    return make_task(config, config.phases[0]), config


def random_batch(task: Task, size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = task.batch_shapes(size)
    labels = np.zeros(shapes["labels"].shape, np.float32)
    labels[:, 0] = 1
    return {
        "video": rng.integers(0, 256, shapes["video"].shape, np.uint8),
        "audio": rng.integers(-9000, 9000, shapes["audio"].shape).astype(np.int16),
        "labels": labels,
    }


class Ours:
    """The step that training takes, compiled."""

    def __init__(self, task: Task, config: Any, variables: Any, batch: dict[str, np.ndarray]):
        mesh = distributed.make_mesh()
        optimizer = make_optimizer(config.optim, make_schedule(config.optim, 1000))
        state = {name: x for name, x in variables.items() if name != "params"}
        self._state = TrainState(jnp.int32(0), variables["params"], state, optimizer.init(variables["params"]))
        self._state = distributed.replicate(self._state, mesh)
        self._batch = distributed.to_devices(batch, mesh)
        self._task, self._config, self._variables = task, config, variables

        def step(state, batch):
            return train_step(state, batch, task=task, optimizer=optimizer, seed=0)

        self._compiled = jax.jit(step, donate_argnums=0).lower(self._state, self._batch).compile()
        memory = self._compiled.memory_analysis()
        self.peak_bytes = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
        self.peak_bytes -= memory.alias_size_in_bytes

    def step(self) -> None:
        self._state, metrics = self._compiled(self._state, self._batch)
        jax.block_until_ready(metrics)

    def outputs(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Logits and gradients of the first step, by the names that `cmav.training.weights` gives the tensors."""

        def loss(params):
            outputs, _ = self._task.apply(
                {**self._variables, "params": params}, self._batch, train=True, dropout_key=jax.random.key(0)
            )
            return self._task.loss(outputs, self._batch)[0], outputs["logits"]

        (_, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(self._variables["params"])
        named = {f"params.{path.replace('/', '.')}": np.asarray(x) for path, x in flatten(gradients).items()}
        return np.asarray(logits), named


class Peer:
    """The same in PyTorch, with the weights as they are exported."""

    def __init__(self, config, variables, batch, dtype, layout, *, compiled=False):
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with tempfile.TemporaryDirectory() as folder:
            run_config.write(config, epath.Path(folder), 0)
            state = {name: x for name, x in variables.items() if name != "params"}
            items = {"params": variables["params"], "model_state": state}
            weights.write(folder, items, {"step": 0, "task": config.task})
            self.network = avs_in_pytorch.load(folder).train().to(self._device)
        for module in self.network.modules():
            if isinstance(module, avs_in_pytorch.ConvLayer) and module.weight.ndim == 5:
                module.weight.data = module.weight.data.to(memory_format=layout)
        self._layout, self._dtype = layout, getattr(torch, dtype)
        self._batch = {name: torch.tensor(x, device=self._device) for name, x in batch.items()}
        settings = config.optim
        self._optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        self._loss = torch.compile(self.loss) if compiled else self.loss

    def loss(self) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            logits = self.network(self._batch["video"], self._batch["audio"])
        logits = logits.float()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, self._batch["labels"])
        return loss, logits

    def step(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss, _ = self._loss()
        loss.backward()
        self._optimizer.step()
        loss.item()

    def outputs(self) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
        self._optimizer.zero_grad(set_to_none=True)
        loss, logits = self.loss()
        loss.backward()
        gradients = {name: parameter.grad for name, parameter in self.network.named_parameters()}
        self._optimizer.zero_grad(set_to_none=True)
        return logits.detach().cpu().numpy(), gradients


def compare(ours: Ours, peer: Peer, dtype: str) -> dict[str, float]:
    """The greatest difference of outputs, and of gradients relative to each one's greatest.

    Raises:
      SystemExit: where they differ by more than rounding.
    """
    logits, gradients = ours.outputs()
    their_logits, theirs = peer.outputs()
    mine = avs_in_pytorch.as_state({name: torch.tensor(x) for name, x in gradients.items()})
    assert mine.keys() == theirs.keys(), mine.keys() ^ theirs.keys()
    greatest = max(x.abs().max().item() for x in theirs.values())
    found = {
        "outputs": float(abs(logits - their_logits).max()),
        # Of some, such as the bias of a key, the true gradient is 0, and each has its own rounding.
        "gradients": max((mine[name] - x.cpu()).abs().max().item() for name, x in theirs.items()) / greatest,
    }
    if found["outputs"] > TOLERANCES[dtype] or found["gradients"] > 10 * TOLERANCES[dtype]:
        raise SystemExit(f"the networks differ: {found}")
    return found


def alternate(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each step. The first two of each, which compile and allocate, do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(repeats + 2):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            if number > 1:
                seconds[name].append(time.perf_counter() - begun)
    return seconds


def matrix_flops(dtype: str) -> float:
    """Operations a second of a large matrix product, the fastest of several."""
    size = 8192 if jax.default_backend() != "cpu" else 2048
    x = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(x, x).block_until_ready()
    fastest = float("inf")
    for _ in range(5):
        begun = time.perf_counter()
        product(x, x).block_until_ready()
        fastest = min(fastest, time.perf_counter() - begun)
    return 2 * size**3 / fastest


def report(args: argparse.Namespace, task: Task, seconds: dict[str, list[float]], ours: Ours, difference) -> Any:
    """Prints, and returns, what was found."""
    found = {name: measuring.summary(of) for name, of in seconds.items()}
    best = min((name for name in found if name != "cmav"), key=lambda name: found[name]["median"])
    ratios = [theirs / mine for mine, theirs in zip(seconds["cmav"], seconds[best], strict=True)]
    rate = matrix_flops(args.dtype)
    per_step = 3 * forward_flops(task) * args.batch
    results = {
        "device": f"{jax.default_backend()} ({jax.devices()[0].device_kind})",
        "settings": {key: value for key, value in vars(args).items() if key != "json"},
        "difference": difference,
        "seconds": found,
        "fastest_peer": best,
        "speed_vs_torch": measuring.summary(ratios),
        "clips_per_second": args.batch / found["cmav"]["median"],
        "peak_bytes": ours.peak_bytes,
        "mfu": per_step / found["cmav"]["median"] / rate,
        "matrix_flops": rate,
    }
    print(
        f"{results['device']}, {args.dtype}: {args.batch} clips of {task.clip.num_frames} frames of {args.size}²; "
        f"outputs differ by {difference['outputs']:.1e}, gradients by {difference['gradients']:.1e}"
    )
    for name, of in found.items():
        print(f"  {name if name == 'cmav' else f'PyTorch, {name}':30} {measuring.in_words(of)} s a step")
    print(f"as fast as the fastest PyTorch, times {measuring.in_words(results['speed_vs_torch'])}")
    print(
        f"{results['clips_per_second']:.2f} clips a second, {results['mfu']:.0%} of what matrix products reach here, "
        f"{ours.peak_bytes / 1e9:.2f} GB planned"
    )
    return results


if __name__ == "__main__":
    sys.exit(main())
