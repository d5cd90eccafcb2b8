"""minimega: how a Megatron-sized language model is built, differentiated and cut across GPUs.

The public names, in the order in which data meets them.
"""

# ruff: isort: off
import minimega.ranks.path  # first: it sees to it that the imports below find Python's own modules
from minimega.data.corpus import open_corpus
from minimega.data.tokens import Batches, Windows, tokenize, train as train_tokenizer
from minimega.autograd import Tensor, backward, no_grad, op, recompute, saved_bytes
from minimega.parameter import Parameter
from minimega.layer import Layer, Place, place
from minimega.model import SHAPES, Config, Model, gpt
from minimega.gradcheck import assert_gradients, check
from minimega.optim import OPTIMIZERS, AdamW
from minimega.train import Alone, Recipe, evaluate, train_step
from minimega.sample import generate
from minimega.errors import BadInput, RunFailed
# ruff: isort: on
