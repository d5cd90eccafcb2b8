"""minimega: how a Megatron-sized language model is built, differentiated and cut across GPUs.

The public names, in the order in which data passes through them:

    texts
        open_corpus        a text to train on: tales, tales-zh, pydoc, a file or a folder
        train_tokenizer    a tokenizer made from texts: characters, words or byte pairs
        tokenize           the tokens of documents, as one array on disk
        Windows            windows of a stream of tokens: inputs, and as targets the next tokens
        Batches            windows in a random order that seed and step decide
        masking_for        hides tokens as BERT does
    autograd
        Tensor             an array that knows how it was made: .backward() fills .grad
        op                 makes an operation of a function that returns y and its backward
        backward           the gradients of a Tensor with respect to its leaves
        no_grad            a block in which no graph is kept
        recompute          calls a function now, and again in the backward pass, to save memory
        saved_bytes        the memory that a graph keeps for its backward pass
    functions
        relu               x where it is positive, 0 elsewhere; like the next four, a method of a Tensor too
        gelu               GELU by the tanh formula of GPT-2
        tanh               the hyperbolic tangent
        softmax            exp(x) over its sum along an axis
        log_softmax        its logarithm
        concatenate        joins Tensors along an axis
        cross_entropy      the loss of a classifier: logits and the numbers of the right classes
    layers
        Parameter          a Tensor that is learned
        Layer              the base of all layers: parameters by name, state_dict, summary
        Place              which sequences and positions a batch holds
        place              the Place of whole sequences
        Linear             y = x W + b
        LayerNorm          features to mean 0 and variance 1
        Embedding          a table of vectors
        Dropout            drops features in training
        Attention          each token averages the others
        MLP                two linear layers around an activation
        Sequential         layers and functions one after another
        ReLU               relu as a layer
        GELU               gelu as a layer
        Tanh               tanh as a layer
    model
        Config             the shape of a GPT
        SHAPES             published shapes by name
        Model              a list of layers from tokens to logits
        gpt                builds a model of a shape
        EncoderDecoder     the shape of a model that translates
    gradcheck
        check              compares a backward pass with finite differences and names the mistake
        assert_gradients   the same, as an assertion
    training
        OPTIMIZERS         the optimizers by name
        SGD                w -= lr g
        Momentum           SGD along a decaying sum of gradients
        AdaGrad            steps that shrink as squared gradients add up
        Adam               running means of gradients and of their squares
        AdamW              Adam with decoupled weight decay
        Recipe             how to train: learning rate, its schedule, decay, clipping
        Alone              trains on one rank, with accumulated gradients
        train_step         one step of training: loss, gradients, update
        evaluate           the mean loss over batches
    sampling
        write              the text with which a model goes on: a str
        stream             the same in pieces, as they come
        generate           the same as tokens, of many texts at once
        fill               the most likely tokens for the gaps of a text
        beam_search        the most likely continuations
    files
        load               a model and its tokenizer, from a folder or a file
        save               writes what load reads
    ranks
        on_ranks           runs a function on several ranks, which are threads
    errors
        BadInput           an input that cannot be used, in a sentence
        RunFailed          a failure while running, in a sentence

>>> import minimega as mm
>>> model = mm.gpt(mm.Config(vocab_size=10, d_model=8, nhead=2)).draw(seed=0)
>>> inputs, targets = np.array([[1, 2, 3]]), np.array([[2, 3, 4]])
>>> record = mm.train_step(model, mm.AdamW(), mm.Recipe(steps=1), 1, inputs, targets)
>>> sorted(record)
['grad_norm', 'loss', 'lr']
"""

# ruff: isort: off
import minimega.ranks.path  # first: makes the imports below find Python's own modules
import sys
from typing import TYPE_CHECKING
from minimega.data.windows import Batches, Windows
from minimega.elsewhere.attributes import PACKAGE, lacks
from minimega.elsewhere.modules import answer
from minimega.autograd import Tensor, backward, no_grad, op, recompute, saved_bytes
from minimega.ops import concatenate, gelu, log_softmax, relu, softmax, tanh
from minimega.parameter import Parameter
from minimega.layer import Dropout, Layer, Place, place
from minimega.linear import Linear
from minimega.norm import LayerNorm
from minimega.attention import Attention
from minimega.mlp import MLP
from minimega.head import cross_entropy
from minimega.nets.embedding import Embedding
from minimega.nets.sequential import GELU, ReLU, Sequential, Tanh
from minimega.model import SHAPES, Config, Model, gpt
from minimega.optim import OPTIMIZERS, SGD, AdaGrad, Adam, AdamW, Momentum
from minimega.train import Alone, Recipe, evaluate, train_step
from minimega.sample import generate
from minimega.errors import BadInput, RunFailed
# ruff: isort: on

answer(sys.modules)

if TYPE_CHECKING:  # LATER, for editors and type checkers
    from minimega.checkpoint.front import load, save
    from minimega.data.corpus import open_corpus
    from minimega.data.masked import masking_for
    from minimega.data.tokens import tokenize
    from minimega.data.tokens import train as train_tokenizer
    from minimega.gradcheck import assert_gradients, check
    from minimega.ranks.threads import on_ranks
    from minimega.seq2seq.beam import beam_search
    from minimega.seq2seq.model import EncoderDecoder
    from minimega.writing.fill import fill
    from minimega.writing.write import stream, write

    __version__: str

__all__ = [  # noqa: RUF022 (in the order of the map)
    "open_corpus",
    "train_tokenizer",
    "tokenize",
    "Windows",
    "Batches",
    "masking_for",
    "Tensor",
    "op",
    "backward",
    "no_grad",
    "recompute",
    "saved_bytes",
    "relu",
    "gelu",
    "tanh",
    "softmax",
    "log_softmax",
    "concatenate",
    "cross_entropy",
    "Parameter",
    "Layer",
    "Place",
    "place",
    "Linear",
    "LayerNorm",
    "Embedding",
    "Dropout",
    "Attention",
    "MLP",
    "Sequential",
    "ReLU",
    "GELU",
    "Tanh",
    "Config",
    "SHAPES",
    "Model",
    "gpt",
    "EncoderDecoder",
    "check",
    "assert_gradients",
    "OPTIMIZERS",
    "SGD",
    "Momentum",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Recipe",
    "Alone",
    "train_step",
    "evaluate",
    "write",
    "stream",
    "generate",
    "fill",
    "beam_search",
    "load",
    "save",
    "on_ranks",
    "BadInput",
    "RunFailed",
]

# Names that are imported when they are asked for, and from where: `import minimega` and --help are quick.
LATER = {
    "EncoderDecoder": "minimega.seq2seq.model.EncoderDecoder",
    "assert_gradients": "minimega.gradcheck.assert_gradients",
    "beam_search": "minimega.seq2seq.beam.beam_search",
    "check": "minimega.gradcheck.check",
    "fill": "minimega.writing.fill.fill",
    "load": "minimega.checkpoint.front.load",
    "masking_for": "minimega.data.masked.masking_for",
    "on_ranks": "minimega.ranks.threads.on_ranks",
    "open_corpus": "minimega.data.corpus.open_corpus",
    "save": "minimega.checkpoint.front.save",
    "stream": "minimega.writing.write.stream",
    "tokenize": "minimega.data.tokens.tokenize",
    "train_tokenizer": "minimega.data.tokens.train",
    "write": "minimega.writing.write.write",
}


def __getattr__(name: str):
    """Import a name of LATER; `__version__` is that of the installed distribution."""
    if name in LATER:
        from importlib import import_module

        module, _, theirs = LATER[name].rpartition(".")
        found = getattr(import_module(module), theirs)
    elif name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("minimegatron")
        except PackageNotFoundError:  # run from its source
            found = "unknown"
    else:
        raise AttributeError(lacks("minimega", name, PACKAGE), name=name, obj=sys.modules[__name__])
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """What is here, and what is imported later: for dir, help and the Tab key."""
    own = {"ELSEWHERE", "LATER", "TYPE_CHECKING", "answer", "minimega", "sys"}
    return sorted({*globals(), *__all__, "__version__"} - own)
