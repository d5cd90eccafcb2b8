"""Common mistakes in such code, to plant: the golden numbers and torch must each notice every one.

Each takes pytest's monkeypatch and puts something wrong in the place of something right.
"""

import math

import numpy as np

from minimega import mlp, ops, optim
from minimega.autograd import op
from minimega.parameter import Parameter
from tests.golden import cases
from tests.golden.cases import attention, embedding, head, linear, norm

MISTAKES = {}  # by name: how to plant it, and the groups of cases/torch_cases that must notice


def noticed_by(*groups: str):
    def enter(plant):
        MISTAKES[plant.__name__.replace("_", " ")] = plant, groups
        return plant

    return enter


@noticed_by("ops", "models")
def gelu_by_erf_instead_of_tanh(patch):
    @op
    def wrong(x):
        below = (1 + np.vectorize(math.erf)(x / 2**0.5)) / 2
        return x * below, lambda dy: dy * (below + x * np.exp(-x * x / 2) / (2 * np.pi) ** 0.5)

    patch.setattr(ops, "gelu", wrong)
    patch.setitem(mlp.ACTIVATIONS, "gelu", wrong)


@noticed_by("ops", "models")
def eps_of_layer_norm_outside_the_root(patch):
    right = norm.layer_norm

    @op
    def wrong(x, w, b, eps=1e-5):
        spread = x.std(axis=-1, keepdims=True) + eps
        return (x - x.mean(axis=-1, keepdims=True)) / spread * w + b, right(x, w, b)[1]

    patch.setattr(norm, "layer_norm", wrong)


@noticed_by("ops", "models")
def layer_norm_variance_taken_for_a_constant(patch):
    right = norm.layer_norm

    @op
    def wrong(x, w, b, eps=1e-5):
        y, back = right(x, w, b, eps)
        r = (x.var(axis=-1, keepdims=True) + eps) ** -0.5

        def wrong_back(dy):
            dxhat = dy * w
            return r * (dxhat - dxhat.mean(axis=-1, keepdims=True)), *back(dy)[1:]

        return y, wrong_back

    patch.setattr(norm, "layer_norm", wrong)


@noticed_by("ops", "models")
def attention_without_its_scale(patch):
    right = attention.attention
    patch.setattr(attention, "attention", lambda q, *rest, **o: right(q * q.shape[-1] ** 0.5, *rest, **o))


@noticed_by("ops", "models")
def attention_sees_the_next_token(patch):
    def wrong(scaled, k, causal=True, seen=None):
        s = scaled @ k.swapaxes(-1, -2)
        s = s if seen is None else np.where(seen[:, None, None], s, -np.inf)
        t, n = s.shape[-2:]
        w = np.exp(np.where(np.tri(t, n, n - t + 1, dtype=bool), s, -np.inf) if causal else s)
        return w / w.sum(axis=-1, keepdims=True)

    patch.setattr(attention, "attention_weights", wrong)


@noticed_by("models")
def query_key_value_in_another_order(patch):
    right = attention.self_attention

    @op
    def wrong(qkv, heads, **options):
        def reordered(x, *groups):
            return x.reshape(*x.shape[:-1], *groups, -1).swapaxes(-2, -3).reshape(x.shape)

        y, back = right(reordered(qkv, 3, heads), heads, **options)
        return y, lambda dy: reordered(back(dy), heads, 3)

    patch.setattr(attention, "self_attention", wrong)


@noticed_by("models")
def sines_before_cosines_instead_of_beside_them(patch):
    def wrong(positions, d_model):
        angle = positions[:, None] / 10000.0 ** (np.arange(0, d_model, 2) / d_model)
        return np.concatenate((np.sin(angle), np.cos(angle)), axis=-1)

    patch.setattr(embedding, "sinusoids", wrong)


@noticed_by("ops", "models")
def repeated_token_gets_one_gradient(patch):
    def wrong(rows, ids, count):
        sums = np.zeros((count, rows.shape[1]), rows.dtype)
        sums[ids] += rows
        return sums

    patch.setattr(embedding, "sum_rows", wrong)


@noticed_by("models")
def tied_head_passes_no_gradient_to_the_table(patch):
    patch.setattr(head.Head, "forward", lambda self, x, _: head.linear(x, self.weight.data.T, self.bias))


@noticed_by("ops", "models", "training")
def ignored_targets_count_in_the_mean(patch):
    def wrong(logits, targets, count=None, **options):
        return right(logits, targets, count=targets.size, **options)

    right = head.cross_entropy
    patch.setattr(head, "cross_entropy", wrong)


@noticed_by("ops", "models")
def bias_gradient_averaged_over_rows(patch):
    right = linear.linear

    @op
    def wrong(x, w, b=None):
        y, back = right(x, w, b)
        return y, lambda dy: (*back(dy)[:2], lambda: dy.reshape(-1, dy.shape[-1]).mean(axis=0))

    patch.setattr(linear, "linear", wrong)


@noticed_by("optimizers", "training")
def biases_decay_too(patch):
    patch.setattr(Parameter, "decays", True)


@noticed_by("optimizers", "training")
def adam_without_its_correction_for_the_start(patch):
    right = optim.Adam.update

    def wrong(self, *rest, **slots):
        steps, self.steps = self.steps, 10**6
        right(self, *rest, **slots)
        self.steps = steps

    patch.setattr(optim.Adam, "update", wrong)


@noticed_by("optimizers")
def adam_with_eps_inside_the_root(patch):
    def wrong(self, w, g, lr, decay, mean, square):
        g = g + decay * w
        mean += (1 - self.beta1) * (g - mean)
        square += (1 - self.beta2) * (g * g - square)
        corrected = square / (1 - self.beta2**self.steps)
        w -= lr * mean / (1 - self.beta1**self.steps) / np.sqrt(corrected + self.eps**2)

    patch.setattr(optim.Adam, "update", wrong)


@noticed_by("optimizers", "training")
def adamw_decay_through_the_means(patch):
    patch.setattr(optim.AdamW, "update", optim.Adam.update)


@noticed_by("optimizers")
def momentum_averaged_instead_of_added_up(patch):
    def wrong(self, w, g, lr, decay, velocity):
        velocity *= self.beta1
        velocity += (1 - self.beta1) * (g + decay * w)
        w -= lr * velocity

    patch.setattr(optim.Momentum, "update", wrong)


@noticed_by("training")
def gradients_not_clipped(patch):
    patch.setattr(optim, "clip", lambda *_: None)


RUNS = {
    "ops": cases.run_ops,
    "models": cases.run_models,
    "optimizers": cases.run_optimizers,
    "training": cases.run_training,
}
PLANTED = [(mistake, group) for mistake, (_, groups) in MISTAKES.items() for group in groups]
