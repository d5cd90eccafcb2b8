"""Mistakes inside layers, models and compositions of Tensors."""

import numpy as np

from minimega import ops
from minimega.autograd import op
from minimega.embedding import TextEmbedding, embedding
from minimega.layer import place
from minimega.linear import RowLinear, linear
from minimega.mlp import MLP
from minimega.model import Config, Model, PreNorm, gpt
from minimega.norm import LayerNorm, layer_norm
from tests.wrong_backwards import gradients, matrix, n, wrong
from tests.wrong_backwards.by_hand import IDS, _into, _ln_dx


@op
def linear_dw_mean(x, w, b):
    """linear, but dw is a mean over the rows."""
    y, back = linear(x, w, b)
    rows = x.size // x.shape[-1]

    def wrong_back(dy):
        dx, dw, db = gradients(back, dy, 3)
        return dx, dw / rows, db

    return y, wrong_back


@op
def embedding_assigned(table, ids):
    """embedding, but back assigns instead of adding."""
    return table[ids], lambda dy: _into(ids, table, dy)


@op
def softmax_short(x):
    """softmax with dx = dy * y."""
    y, _ = ops.softmax(x)
    return y, lambda dy: dy * y


@op
def layer_norm_short(x, w, b):
    """layer_norm without the mean of dxhat."""
    y, back = layer_norm(x, w, b)

    def wrong_back(dy):
        _, dw, db = gradients(back, dy, 3)
        return _ln_dx(0, 1)(dy, y, x, w, b), dw, db

    return y, wrong_back


@op
def gelu_short(x):
    """gelu with only its first term."""
    y, _ = ops.gelu(x)
    return y, lambda dy: dy * y / x


@op
def swallow(x):
    """The identity, but without a gradient."""
    return x.copy(), lambda dy: 0 * dy


def drawn(layer, rng):
    """The layer with random float64 parameters (no zeros or ones)."""
    layer.named().draw(0, "float64")
    for p in layer.parameters().values():
        p.data = rng.normal(size=p.whole_shape)
    return layer


class LinearMean(RowLinear):
    def forward(self, x):
        return linear_dw_mean(x, self.weight, self.bias)


class EmbeddingAssigned(TextEmbedding):
    def forward(self, ids, place):
        return embedding_assigned(self.tokens, ids) + embedding(self.positions, place.local_positions)


class LayerNormShort(LayerNorm):
    def forward(self, x):
        return layer_norm_short(x, self.weight, self.bias)


class LayerNormFrozen(LayerNorm):
    def forward(self, x):
        return layer_norm(x, self.weight.data, self.bias)


class MLPShort(MLP):
    def forward(self, x, place):
        return self.down(gelu_short(self.up(x, place)))


class NoResidual(PreNorm):
    def forward(self, x, place):
        return swallow(x) + self.branch(self.norm(x), place)


class LossAssigned(Model):
    def hidden(self, tokens, at=None):
        x = embedding_assigned(self.layers["embedding"].tokens, tokens)
        return self.layers["head"](x, place(tokens))


@wrong("scale", 1)
def linear_layer(rng):
    """dw of the layer RowLinear is a mean"""
    return drawn(LinearMean(4, 3), rng), [n(rng, 2, 5, 4)]


@wrong("overwritten")
def embedding_layer(rng):
    """the layer TextEmbedding assigns its rows"""
    return drawn(EmbeddingAssigned(6, 5, 3), rng), [IDS, place(IDS)]


@wrong("mean")
def layer_norm_layer(rng):
    """the layer LayerNorm forgets the mean of dxhat"""
    return drawn(LayerNormShort(6), rng), [n(rng, 4, 6)]


@wrong("zero", 1)
def layer_norm_frozen(rng):
    """the layer LayerNorm never trains its weight"""
    return drawn(LayerNormFrozen(6), rng), [n(rng, 4, 6)]


@wrong("path")
def block_without_residual(rng):
    """the residual passes no gradient"""
    block = drawn(NoResidual(MLP(4, 6), 4, 0.0), rng)
    return lambda x: block(x, place(np.zeros((2, 3), int))), [n(rng, 2, 3, 4)]


@wrong("path")
def tensors_without_residual(rng):
    """x + softmax(x), the residual's gradient dropped"""
    return lambda x: swallow(x) + ops.softmax(x), matrix(rng)


@wrong("path")
def tensors_with_the_residual_alone(rng):
    """x + softmax(x), the softmax's gradient dropped"""
    return lambda x: x + ops.softmax(swallow(x)), matrix(rng)


@wrong("rank-one")
def softmax_in_a_chain(rng):
    """a short softmax, then a product"""
    w = n(rng, 4, 3)
    return lambda x: ops.matmul(softmax_short(x), w), [n(rng, 3, 4)]


@wrong("mean")
def norm_before_linear(rng):
    """a short LayerNorm, then a linear layer"""
    w, one, none, k = n(rng, 6, 4), rng.uniform(0.5, 2, 6), n(rng, 6), n(rng, 4)
    return lambda x: linear(layer_norm_short(x, one, none), w, k), [n(rng, 4, 6)]


@wrong("overwritten")
def model_embedding(rng):
    """a model whose embedding assigns its rows"""
    whole = gpt(Config(vocab_size=8, context=6, d_model=4, nhead=2, num_layers=1, tied=False))
    model = drawn(LossAssigned(whole.config, {k: whole.layers[k] for k in ("embedding", "head")}), rng)
    del model.layers["embedding"].positions
    tokens = np.array([[0, 1, 1, 2, 5, 6]])
    return model, [tokens, np.roll(tokens, -1)]
