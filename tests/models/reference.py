"""The network's parts again, in NumPy float64 and plain loops, to compare with."""

import itertools

import numpy as np


def windows(shape, kernel, strides, dilation=None):
    """Yields (output index, [(tap, input index), ...]) of a SAME-padded window over axes of the given lengths.

    Taps are `dilation` steps apart, with as many times the padding.
    """
    dilation = dilation or (1,) * len(kernel)
    outputs = [-(-length // stride) for length, stride in zip(shape, strides, strict=True)]
    totals = [
        max((n - 1) * stride + size - length, 0)
        for n, length, size, stride in zip(outputs, shape, kernel, strides, strict=True)
    ]
    for out in itertools.product(*map(range, outputs)):
        taps = []
        for tap in itertools.product(*map(range, kernel)):
            index = tuple(
                o * s + d * (k - t // 2) for o, s, d, t, k in zip(out, strides, dilation, totals, tap, strict=True)
            )
            if all(0 <= i < length for i, length in zip(index, shape, strict=True)):
                taps.append((tap, index))
        yield out, taps


def conv(x, kernel, strides, dilation=None):
    """x [N, *axes, cin], kernel [*taps, cin, cout]."""
    axes, sizes = x.shape[1:-1], kernel.shape[:-2]
    y = np.zeros((len(x), *(-(-n // s) for n, s in zip(axes, strides, strict=True)), kernel.shape[-1]))
    for out, taps in windows(axes, sizes, strides, dilation):
        for tap, index in taps:
            y[:, *out] += x[:, *index] @ kernel[tap]
    return y


def conv_gradients(x, kernel, strides, dy, dilation=None):
    dx, dkernel = np.zeros(x.shape), np.zeros(kernel.shape)
    for out, taps in windows(x.shape[1:-1], kernel.shape[:-2], strides, dilation):
        for tap, index in taps:
            dx[:, *index] += dy[:, *out] @ kernel[tap].T
            dkernel[tap] += x[:, *index].T @ dy[:, *out]
    return dx, dkernel


def average_pool(x, kernel, strides, dilation=None):
    axes = x.shape[1:-1]
    y = np.zeros((len(x), *(-(-n // s) for n, s in zip(axes, strides, strict=True)), x.shape[-1]))
    for out, taps in windows(axes, kernel, strides, dilation):
        y[:, *out] = np.mean([x[:, *index] for _, index in taps], axis=0)
    return y


def average_pool_gradient(x, kernel, strides, dy, dilation=None):
    dx = np.zeros(x.shape)
    for out, taps in windows(x.shape[1:-1], kernel, strides, dilation):
        for _, index in taps:
            dx[:, *index] += dy[:, *out] / len(taps)
    return dx


def dense(x, params):
    return x @ params["kernel"] + params["bias"]


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def attention(queries, context, params, num_heads):
    """One clip: queries [Q, D], context [K, D]. Returns the attended values and the weights [heads, Q, K]."""
    q, k, v = (dense(x, params[n]) for x, n in ((queries, "query"), (context, "key"), (context, "value")))
    size = q.shape[-1] // num_heads
    attended, weights = [], []
    for head in range(num_heads):
        part = slice(head * size, (head + 1) * size)
        weights.append(softmax(q[:, part] @ k[:, part].T / np.sqrt(size)))
        attended.append(weights[-1] @ v[:, part])
    return dense(np.concatenate(attended, axis=-1), params["out"]), np.stack(weights)


def layer_norm(x, params, epsilon=1e-6):
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + epsilon)
    return x * params["scale"] + params["bias"]


def transformer_block(queries, context, params, num_heads):
    attended, weights = attention(queries, context, params["attention"], num_heads)
    x = layer_norm(queries + attended, params["attention_norm"])
    hidden = np.maximum(dense(x, params["mlp_hidden"]), 0)
    return layer_norm(x + dense(hidden, params["mlp_out"]), params["mlp_norm"]), weights
