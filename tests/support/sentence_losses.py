"""Skip-Thought's training loss in float64, one sentence and one word at a time, from the equations and nothing else."""

import numpy as np

from tests.support.encoder_references import sigmoid


def gru_step(W, U, b, x, h):
    """One step with torch's layout: W (3D, inputs), U (3D, D), b (3D,), rows r, u, candidate; no hidden bias."""
    D = len(h)
    gates, state = W @ x + b, U @ h
    r, u = sigmoid(gates[:D] + state[:D]), sigmoid(gates[D : 2 * D] + state[D : 2 * D])
    return u * h + (1 - u) * np.tanh(gates[2 * D :] + r * state[2 * D :])


def vector(p, sentence):
    """The states after the last word, forwards and (where there is a second GRU) backwards."""
    found = []
    for suffix, words in (("", sentence), ("_reverse", sentence[::-1])):
        if f"encoder.weight_ih_l0{suffix}" in p:
            W, U, b = (p[f"encoder.{name}_l0{suffix}"] for name in ("weight_ih", "weight_hh", "bias_ih"))
            h = np.zeros(U.shape[1])
            for word in words:
                h = gru_step(W, U, b, p["embedding.weight"][word], h)
            found.append(h)
    return np.concatenate(found)


def surprise(p, decoder, h, sentence, log_probabilities):
    """-ln p of the words of `sentence`, which ends with <eos>, summed."""
    W, U, b = (p[f"{decoder}.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih"))
    state = np.tanh(p["initial.weight"] @ h + p["initial.bias"])
    before, total = np.zeros(p["embedding.weight"].shape[1]), 0.0
    for word in sentence:
        state = gru_step(W, U, b, np.concatenate([before, h]), state)
        total -= log_probabilities(p, state)[word]
        before = p["embedding.weight"][word]
    return total


def log_softmax(scores):
    return scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())


def full(p, state):
    return log_softmax(p["output.layer.weight"] @ state + p["output.layer.bias"])


def adaptive(cutoffs):
    """Grave et al., 2017: ln p(word) = ln p(cluster) + ln p(word | cluster); the most frequent stand for themselves."""

    def of(p, state):
        head = log_softmax(p["output.layer.head.weight"] @ state)
        found = [head[: cutoffs[0]]]
        for i in range(len(cutoffs)):
            low, out = p[f"output.layer.tail.{i}.0.weight"], p[f"output.layer.tail.{i}.1.weight"]
            found.append(head[cutoffs[0] + i] + log_softmax(out @ (low @ state)))
        return np.concatenate(found)

    return of
