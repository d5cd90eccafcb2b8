"""A mixture of experts in place of an MLP: a router sends each token to k of E MLPs.

The experts are spread over ranks, each of which has its own tokens. A token's row travels to the ranks of its
k experts and back (all-to-all), whatever their load: no row is dropped and none is padded (dropless: Gale et
al. 2022). The number of rows for each rank is known only once the router has chosen, so counts travel first.

B batch, T time, D width, F hidden width, E experts, k experts per token; N = B T tokens, R = N k rows, M rows
received by the experts of this rank, p ranks that hold the experts.
"""

from typing import NamedTuple

import numpy as np

from minimega.autograd import Tensor, op
from minimega.backend import library, to_numpy
from minimega.layer import Layer
from minimega.linear import linear
from minimega.mlp import ACTIVATIONS
from minimega.ops import softmax
from minimega.parameter import Parameter
from minimega.precision import narrow, product, wide
from minimega.ranks.group import SELF, Group, Wait, pieces


def top(probs, k: int):
    """The k most probable experts per token, the best first, ties by number: (..., E) -> (..., k).

    >>> top(np.array([[0.2, 0.3, 0.2, 0.3]]), 3).tolist()
    [[1, 3, 0]]
    """
    return library(probs).argsort(-wide(probs), kind="stable")[..., :k].copy()  # a view would keep all E


@op
def gates(probs, chosen):
    """The weight of each chosen expert: its probability over that of all chosen, (N, E), (N, k) -> (N, k).

    That is a softmax over the k chosen logits alone (Shazeer et al. 2017, equations 3 and 5; Jiang et al.
    2024, section 2.1). For k = 1 the gate is the probability itself (Fedus et al. 2021, equation 2):
    otherwise it would always be 1, and the router would learn nothing from it.

    >>> gates(np.array([[0.5, 0.2, 0.3]]), np.array([[0, 2]]))[0].round(3).tolist()
    [[0.625, 0.375]]
    """
    xp, shape = library(probs), probs.shape
    places = xp.arange(len(probs))[:, None], chosen
    p = wide(probs[places])  # (N, k)
    several = chosen.shape[1] > 1
    total = p.sum(axis=1, keepdims=True) if several else 1
    y = narrow(p / total, probs)  # kept

    def back(dy):
        # a probability moves its own gate and, through the sum, all gates: that part is the same for all
        dp = (dy - (dy * y).sum(axis=1, keepdims=True)) / total if several else dy
        dprobs = xp.zeros(shape, dp.dtype)
        dprobs[places] = dp  # a token chooses an expert once: no entry is written twice
        return dprobs

    return y, back


class Routes(NamedTuple):
    """Where the rows of this rank's tokens go: each to the rank that holds its expert, and back.

    Over all ranks together the way there is a permutation and the way back its inverse, so each is the
    backward pass of the other.
    """

    group: Group
    label: str
    sends: list[int]  # rows to each rank
    receives: list[int]  # rows from each rank
    counts: list[int]  # rows for each expert of this rank
    leaving: np.ndarray  # (R,) the order in which rows leave: by expert
    returned: np.ndarray  # (R,) and its inverse
    arrived: np.ndarray  # (M,) the order that sorts received rows by expert
    answered: np.ndarray  # (M,) and its inverse

    def there(self, rows) -> Wait:
        """Start sending the tokens' rows (R, D); the wait returns those for this rank's experts, (M, D)."""
        wait = self.group.start_all_to_all(rows[self.leaving], self.sends, self.receives, self.label)
        return lambda: wait()[self.arrived]

    def back(self, rows) -> Wait:
        """Start sending the experts' rows (M, D) back; the wait returns those of the tokens, (R, D)."""
        wait = self.group.start_all_to_all(rows[self.answered], self.receives, self.sends, self.label)
        return lambda: wait()[self.returned]


def route(chosen, experts: int, group: Group = SELF, label: str = "") -> Routes:
    """The routes of tokens that chose these experts, (N, k); all ranks of the group exchange row counts."""
    xp, ids, held = library(chosen), chosen.reshape(-1), pieces(experts, group.size)
    own = [s.stop - s.start for s in held]  # experts of each rank
    here = own[group.rank]
    sent = to_numpy(xp.bincount(ids, minlength=experts))  # rows for each expert
    came = group.all_to_all(sent, own, [here] * group.size, label).reshape(-1, here)  # (p, experts here)
    sends, receives = [int(sent[s].sum()) for s in held], came.sum(axis=1).tolist()
    of_rows = xp.asarray(np.tile(np.arange(here), len(came)).repeat(came.ravel()))  # the expert of each, (M,)
    orders = *_sorted_by(ids), *_sorted_by(of_rows)
    return Routes(group, label, sends, receives, came.sum(axis=0).tolist(), *orders)


def _sorted_by(ids) -> tuple:
    """The stable order that sorts the ids, and its inverse."""
    xp = library(ids)
    order = xp.argsort(ids, kind="stable")
    undone = xp.empty_like(order)
    undone[order] = xp.arange(len(order))
    return order, undone


@op(exact=True)
def to_experts(x, routes: Routes, k: int):
    """Send each token's row to its k experts: (N, D) -> (M, D)."""
    shape = len(x), k, x.shape[1]

    def back(dy):
        wait = routes.back(dy)  # in flight while the caller goes on
        return lambda: wide(wait()).reshape(shape).sum(axis=1)  # the k rows are copies of one

    return routes.there(x.repeat(k, axis=0))(), back


@op(exact=True)
def from_experts(rows, routes: Routes):
    """Send the experts' rows back, into the order of their tokens: (M, D) -> (R, D)."""
    return routes.back(rows)(), lambda dy: routes.there(dy)


@op
def grouped(rows, w, counts: list[int]):
    """Each expert's rows times its own matrix: (M, I), (E, I, O) -> (M, O); expert e has counts[e] rows.

    >>> grouped(np.ones((3, 1)), np.array([[[2.0]], [[5.0]]]), [1, 2])[0].ravel().tolist()
    [2.0, 5.0, 5.0]
    """
    xp = library(rows)
    its = [slice(end - n, end) for end, n in zip(np.cumsum(counts).tolist(), counts, strict=True)]

    def back(dy):
        return (
            xp.concatenate([product(dy[s], m.T) for s, m in zip(its, w, strict=True)]),
            lambda: xp.stack([product(rows[s].T, dy[s]) for s in its]),  # zeros for an expert without rows
        )

    return xp.concatenate([product(rows[s], m) for s, m in zip(its, w, strict=True)]), back


@op
def weighted(rows, gates):
    """The sum of each token's k rows, weighted by its gates: (R, D), (N, k) -> (N, D)."""
    shape = rows.shape
    rows = rows.reshape(*gates.shape, shape[1])  # (N, k, D)

    def back(dy):
        dy = dy[:, None]  # (N, 1, D)
        return (gates[..., None] * dy).reshape(shape), lambda: (rows * dy).sum(axis=-1)

    return (wide(rows) * gates[..., None]).sum(axis=1), back


@op(exact=True)
def balance(probs, chosen, total=lambda sums: sums):
    """How unevenly each sequence uses the experts, 1 if all equally: (B, T, E), (B, T, k) -> (B,).

    E sum_e f_e P_e, with f_e the fraction of the sequence's choices that are expert e, and P_e its mean
    probability. f is piecewise constant, so the gradient goes through P (Fedus et al. 2021, equations 4 to
    6). It is computed per sequence (DeepSeek-AI 2024, section 2.1.2), so it adds up however the batch is cut.
    Every token of a sequence counts, whether or not its target does. `total` adds up over the ranks that
    hold the tokens of a sequence.

    >>> balance(np.array([[[0.9, 0.1], [0.6, 0.4]]]), np.array([[[0], [0]]]))[0].tolist()
    [1.5]
    """
    xp, shape, k = library(probs), probs.shape, chosen.shape[-1]
    batch, _, experts = shape
    ids = chosen + experts * xp.arange(batch)[:, None, None]
    rows = xp.bincount(ids.reshape(-1), minlength=batch * experts).reshape(batch, experts)
    rows, p = total(xp.stack([rows.astype("float64"), probs.sum(axis=1, dtype="float64")]))  # each (B, E)
    tokens = rows.sum(axis=1, keepdims=True) / k  # (B, 1)
    f, p, dtype = rows / (k * tokens), p / tokens, wide(probs[..., :0]).dtype
    slope = (experts * f / tokens)[:, None]  # (B, 1, E): the same at every token

    def back(dy):
        return xp.broadcast_to((slope * dy[:, None, None]).astype(dtype), shape)

    return (experts * f * p).sum(axis=1).astype(dtype), back


@op
def attach(x, dx):
    """x itself; dx, the gradient of a loss whose value is added elsewhere, is added to its gradient."""
    return x, lambda dy: dy + dx


class Experts(Layer):
    """Router, k of E MLPs without biases (as Jiang et al. 2024), and their sum: (B, T, D) -> (B, T, D).

    The ranks of `shares.experts` each hold some experts, those of `shares.group` some features of each. The
    router runs where norms do, before x enters the cut layer; its probabilities enter beside x, and each
    rank that then holds all tokens makes the same choice, so choices are not sent.
    """

    def __init__(self, config, std_out: float = 0.02):
        c = config
        self.experts, self.k, self.weight = c.experts, c.top_k_experts, c.balance
        self.activation = ACTIVATIONS[c.activation]
        self.router = Parameter((c.d_model, c.experts), std=0.02)
        self.up = Parameter((c.experts, c.d_model, c.d_hidden), std=0.02, axis=2, by_expert=True)
        self.down = Parameter((c.experts, c.d_hidden, c.d_model), std=std_out, axis=1, by_expert=True)

    def forward(self, x, place=None):
        """(B, T, D) -> (B, T, D); in training the value of the balance loss goes to `place.extra`."""
        self.expect(x, self.router.shape[0], "B, T")
        probs = softmax(linear(x, self.router))  # (B, its tokens, E)
        if place and place.training:
            probs = self.balanced(probs, place)
        probs = self.shares.enter(probs, place, f"{self.name}.router")  # (B, T, E)
        x = self.shares.enter(x, place, f"{self.name}.up")
        batch, time, width = x.shape
        x, probs = x.reshape(batch * time, width), probs.reshape(batch * time, self.experts)
        chosen = top(probs.data, self.k)  # (N, k)
        routes = route(chosen, self.experts, self.shares.experts, self.name)
        rows = to_experts(x, routes, self.k)  # (M, D)
        rows = grouped(self.activation(grouped(rows, self.up, routes.counts)), self.down, routes.counts)
        y = weighted(from_experts(rows, routes), gates(probs, chosen))  # (N, D)
        return self.shares.leave(y.reshape(batch, time, width), f"{self.name}.down")

    def balanced(self, probs, place):
        """The probabilities, with the gradient of the balance loss attached; its value goes to `place.extra`.

        The loss is a mean over the sequences of the whole step, as the cross-entropy is over its tokens.
        """

        def total(sums):
            return self.shares.over_tokens(Tensor(sums), f"{self.name}.balance").data

        values, back = balance(probs.data, top(probs.data, self.k), total)
        each = self.weight / (place.sequences or len(values))
        # every rank that has tokens of a sequence knows its value, and the context's ranks add theirs up
        place.extra[self.name] = values.sum() * (each / self.shares.context.size)
        return attach(probs, back(library(values).full_like(values, each * place.scale)))
