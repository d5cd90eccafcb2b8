"""Mistakes planted in the parallel code: the comparison with the serial model must notice each.

Those in the regions alone are in `cases_regions`. D width, V vocabulary.
"""

import numpy as np

from minimega import attention, autograd, embedding, layer, linear, train
from minimega.embedding import sum_rows
from minimega.head import Head, cross_entropy
from minimega.model import Model
from minimega.optim import clip, gradient_norm
from minimega.parallel import data, regions
from minimega.parallel import team as teams
from minimega.parallel.grid import Grid, grid
from minimega.parallel.layout import Layout
from minimega.parallel.tensor import SequenceParallel
from minimega.ranks import group as comm
from tests.mpi import together
from tests.mpi.cases_model import assert_copies_are_equal, on
from tests.mpi.equal import compare
from tests.mpi.ranks import sizes

PLANTED = {}  # by name: (the layout, the factors, what must differ, the function that gives the patches)


def planted(layout: str, *factors: str, differs: str):
    """Marks a function that yields (where, attribute, replacement), once or more."""

    def mark(plant):
        PLANTED[plant.__name__] = layout, frozenset(factors), differs, plant
        return plant

    return mark


@planted("tensor", differs="gradient block0.mlp.norm.weight")
def f_without_its_all_reduce():
    yield regions, "copy", autograd.op(lambda x, *, group, label: (x, lambda dy: dy))


@planted("tensor", differs="gradient block0.mlp.branch.down.weight")
def the_gradient_of_g_doubled():
    yield regions, "reduce", autograd.op(lambda x, *, group, label: (group.all_reduce(x), lambda dy: 2 * dy))


@planted("sequence", differs="gradient embedding.positions")
def gather_without_the_sum_of_its_gradient():
    yield regions, "gather", regions.join


@planted("sequence", differs="gradient block0.mlp.norm.weight")
def norms_unsummed_over_the_tokens():
    yield Grid, "holders", lambda self, p: self.data


@planted("tensor", differs="gradient block0.mlp.norm.weight")
def norms_summed_that_are_whole():
    yield Grid, "holders", lambda self, p: self.world if p.axis is None else self.data


@planted("tensor", differs="gradient block0.mlp.branch.up.weight")
def pieces_summed_over_the_ranks_that_share_them_out():
    yield Grid, "holders", lambda self, p: self.world


@planted("tensor", differs="norm")
def norm_that_counts_copies_on_each_rank():
    def norm(self, ps):
        return float(self.grid.world.all_reduce(np.array(gradient_norm(ps) ** 2))) ** 0.5

    yield teams.Team, "norm", norm


@planted("tensor", differs="norm")
def norm_of_the_own_pieces():
    yield teams.Team, "norm", lambda self, ps: gradient_norm(ps)


@planted("tensor", differs="norm")
def norm_without_what_is_cut():
    yield teams.Team, "norm", lambda self, ps: gradient_norm(p for p in ps if p.axis is None)


@planted("tensor", differs="SGD weight block0.mlp.branch.down.weight")
def clipped_by_the_norm_of_the_own_pieces():
    yield train, "clip", lambda ps, most, norm: clip(ps, most, gradient_norm(ps))


@planted("data", "ignored", differs="loss")
def loss_over_the_number_of_the_own_targets():
    right = Model.loss
    yield Model, "loss", lambda self, tokens, targets, at, count: right(self, tokens, targets, at)


@planted("data", differs="loss")
def loss_of_the_own_replica_is_logged():
    right = comm.Group.all_reduce
    yield (
        comm.Group,
        "all_reduce",
        lambda self, x, op="sum", label="": x if label == "loss" else right(self, x, op, label),
    )


@planted("data", differs="gradient block0.mlp.branch.down.bias")
def gradients_averaged_that_are_parts_of_a_mean():
    right = data.Bucket.arrive

    def arrive(self):
        right(self)
        for p in self.parameters:
            p.grad = p.grad / self.group.size

    yield data.Bucket, "arrive", arrive


@planted("data", "dropout", differs="loss")
def dropout_of_the_first_samples_everywhere():
    yield teams, "Place", lambda samples, *rest, **known: layer.Place(samples - samples[0], *rest, **known)


@planted("tensor", "dropout", differs="loss")
def dropout_of_the_first_heads_everywhere():
    right = attention.Core.heads

    def heads(self):
        own = right.fget(self)
        return slice(0, own.stop - own.start)

    yield attention.Core, "heads", property(heads)


@planted("sequence", "dropout", differs="loss")
def dropout_of_the_first_tokens_everywhere():
    def forward(self, x, place):
        tokens, features = (np.arange(n) for n in x.shape[1:])
        return layer.dropout(x, keep=place.keep(self.name, self.p, tokens[:, None], features), p=self.p)

    yield layer.Dropout, "forward", forward


@planted("sequence", differs="loss")
def positions_of_the_first_tokens_everywhere():
    yield SequenceParallel, "tokens", lambda self, n: slice(0, len(range(n)[self.group.piece(n)]))


@planted("tensor", differs="loss")
def bias_of_a_row_cut_added_on_every_rank():
    yield (
        linear.RowLinear,
        "forward",
        lambda self, x, place: self.shares.leave(linear.linear(x, self.weight, self.bias), self.name),
    )


@planted("sequence", differs="loss")
def bias_of_a_row_cut_added_on_one_rank():
    right = linear.RowLinear.forward

    def forward(self, x, place):
        return right(self, x, place) - (self.bias if self.shares.group.rank else 0.0)

    yield linear.RowLinear, "forward", forward


def cross_entropy_with(change):
    def method(self, logits, targets, count=None):
        first, group = self.weight.piece[0].start, self.shares.group
        first, group = change(first, group)
        size = self.weight.whole_shape[0]
        return cross_entropy(logits, targets, count=count, first=first, group=group, vocabulary=size)

    yield Head, "cross_entropy", method


@planted("tensor", "uneven", differs="loss")
def cross_entropy_from_the_first_token_everywhere():
    return cross_entropy_with(lambda first, group: (0, group))


class Deaf:
    """A group that omits one kind of all-reduce."""

    def __init__(self, group, op):
        self.group, self.op = group, op

    def all_reduce(self, x, op="sum", label=""):
        return x if op == self.op else self.group.all_reduce(x, op, label)


@planted("tensor", differs="loss")
def cross_entropy_without_the_max_of_all():
    return cross_entropy_with(lambda first, group: (first, Deaf(group, "max")))


@planted("tensor", differs="loss")
def cross_entropy_without_the_sum_of_all():
    return cross_entropy_with(lambda first, group: (first, Deaf(group, "sum")))


def embedding_with(change):
    @autograd.op
    def op(table, ids, first=0):
        here = (ids >= first) & (ids < first + len(table))
        rows = (ids - first) * here
        y, from_here = change(table[rows], here)
        return y, lambda dy: sum_rows(dy[from_here], rows[from_here], len(table))

    yield embedding, "embedding", op


@planted("tensor", differs="loss")
def embedding_with_rows_for_tokens_of_other_ranks():
    return embedding_with(lambda y, here: (y, here))


@planted("tensor", differs="gradient embedding.tokens")
def embedding_with_gradients_for_tokens_of_other_ranks():
    return embedding_with(lambda y, here: (y * here[..., None], here | True))


@planted("tensor", differs="loss")
def embedding_that_begins_at_the_first_token_everywhere():
    right = embedding.embedding
    yield embedding, "embedding", lambda table, ids, first=0: right(table, ids)


@planted("data", differs="gradient embedding.tokens")
def a_bucket_leaves_before_the_second_use_of_a_tied_table():
    def at_once(waiting, uses):
        for leaf, dx, _ in waiting:
            dx = dx() if callable(dx) else dx
            leaf.grad = dx if leaf.grad is None else leaf.grad + dx
            if leaf.complete:
                leaf.complete(leaf)

    yield autograd, "_add_up", at_once
    yield data.Bucket, "is_complete", lambda self: self.left


@planted("data", "recompute", differs="gradient embedding.tokens")
def a_bucket_leaves_before_a_recomputed_embedding():
    yield data.Bucket, "is_complete", lambda self: self.left


@planted("data", "accumulate", differs="gradient block0.mlp.branch.down.bias")
def every_part_of_an_accumulated_gradient_reduced():
    made, right = [], data.Reducer.__init__

    def init(self, *args):
        right(self, *args)
        made.append(self)

    yield data.Reducer, "__init__", init
    yield teams, "nullcontext", lambda: made[-1]


@planted("data", "accumulate", differs="gradient block0.mlp.branch.down.bias")
def only_the_last_part_of_an_accumulated_gradient_sent():
    right = data.Reducer.__enter__

    def enter(self):
        for p in (p for b in self.buckets for p in b.parameters):
            p.grad = None
        return right(self)

    yield data.Reducer, "__enter__", enter


LAYOUTS = {  # by the number of ranks
    2: {"tensor": (2, 1, False), "sequence": (2, 1, True), "data": (1, 2, False)},
    4: {"tensor": (2, 2, False), "sequence": (2, 2, True), "data": (1, 4, False)},
}


@sizes(2, 4)
def case_planted_mistakes_differ_from_the_serial_model(group):
    right = {}
    for name, (layout, factors, differs, plant) in PLANTED.items():
        g = grid(group, Layout(*LAYOUTS[group.size][layout]))
        case = on(g, factors)
        if (layout, factors) not in right:  # before anything is planted
            right[layout, factors] = max(compare(case, g).values())
        with together.planted(group, plant):
            wrong = compare(case, g)
        worst = {n: float(group.all_reduce(np.array(x), "max")) for n, x in wrong.items()}
        assert right[layout, factors] <= 1, name
        assert worst[differs] > 1e6, (name, differs, worst[differs], {n for n, x in worst.items() if x > 1})


@sizes(2, 4)
def case_planted_mistakes_part_the_copies(group):
    for plant in (norms_unsummed_over_the_tokens, clipped_by_the_norm_of_the_own_pieces):
        layout, factors, *_ = PLANTED[plant.__name__]
        g, caught = grid(group, Layout(*LAYOUTS[group.size][layout])), 0
        with together.planted(group, plant):
            try:
                assert_copies_are_equal(on(g, factors, "float32"), g)
            except AssertionError:
                caught = 1
        assert group.all_reduce(np.array(caught)) == group.size, plant.__name__
