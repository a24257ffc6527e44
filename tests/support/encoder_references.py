"""Both encoders in float64, one text at a time, written from the published equations and nothing else."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_layer(gru, prefix, rows):
    """The last state of skipthoughts.py's gru_layer over `rows` (T, E); `gru` maps the file's names to arrays."""
    W, b, U, Wx, bx, Ux = (
        gru[f"encoder_{prefix}{key}"].astype(np.float64) for key in ("W", "b", "U", "Wx", "bx", "Ux")
    )
    D = len(Ux)
    h = np.zeros(D)
    for x in rows.astype(np.float64):
        p = h @ U + x @ W + b
        r, u = sigmoid(p[:D]), sigmoid(p[D:])
        c = np.tanh((h @ Ux) * r + x @ Wx + bx)
        h = u * h + (1 - u) * c
    return h


def skip_thought(uni, bi, utable, btable, rows, normalise=True):
    """The combined vector of one sentence given as table rows."""
    halves = [
        gru_layer(uni, "", utable[rows]),
        np.concatenate([gru_layer(bi, "", btable[rows]), gru_layer(bi, "r_", btable[rows][::-1])]),
    ]
    if normalise:
        halves = [half / np.sqrt((half**2).sum()) for half in halves]
    return np.concatenate(halves)


ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"/\\|_@#$%^&*~`+-=<>()[]{} "


def one_hot(text):
    """(201, 70) as Reed's demo builds it, byte by byte."""
    position = {letter: i for i, letter in enumerate(ALPHABET)}  # the later '-' wins, as in Lua
    columns = np.zeros((201, 70))
    for t, byte in enumerate(text.encode("utf-8")[:201]):
        if byte < 128 and chr(byte) in position:
            columns[t, position[chr(byte)]] = 1
    return columns


def char_cnn_rnn(net, text):
    """One text through TemporalConvolution, Threshold, TemporalMaxPooling, FixedGRU or FixedRNN, Linear.

    `net`: convolutions [(weight (out, kernel × in), bias, pool or None)], "gru" | "rnn", maps by name, average, linear.
    """
    x = one_hot(text)
    for weight, bias, pool in net["convolutions"]:
        weight, bias = weight.astype(np.float64), bias.astype(np.float64)
        kernel = weight.shape[1] // x.shape[1]
        x = np.stack([weight @ x[t : t + kernel].ravel() + bias for t in range(len(x) - kernel + 1)])
        x = np.where(x > 1e-6, x, 0)
        if pool:
            width, stride = pool
            x = np.stack([x[t : t + width].max(0) for t in range(0, len(x) - width + 1, stride)])
    m = {name: (weight.astype(np.float64), bias.astype(np.float64)) for name, (weight, bias) in net["maps"].items()}

    def linear(name, value):
        return m[name][0] @ value + m[name][1]

    states: list[np.ndarray] = []
    for column in x:
        if net["recurrence"] == "rnn":
            h = linear("i2h", column) + (linear("h2h", states[-1]) if states else 0)
            states.append(np.maximum(h, 0))
        elif not states:
            states.append(np.tanh(linear("i2h", column)))
        else:
            h = states[-1]
            z = sigmoid(linear("i2h_update", column) + linear("h2h_update", h))
            r = sigmoid(linear("i2h_reset", column) + linear("h2h_reset", h))
            candidate = np.tanh(linear("i2h", column) + linear("h2h", r * h))
            states.append(z * candidate + (1 - z) * h)
    h = np.mean(states, 0) if net["average"] else states[-1]
    weight, bias = net["linear"]
    return weight.astype(np.float64) @ h + bias.astype(np.float64)
