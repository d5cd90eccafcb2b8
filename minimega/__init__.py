"""minimega: how a Megatron-sized language model is built, differentiated and cut across GPUs.

The public names, in the order in which data passes through them:

    texts       open_corpus, train_tokenizer, tokenize, Windows, Batches, masking_for
    autograd    Tensor, op, backward, no_grad, recompute, saved_bytes
    model       Parameter, Layer, Place, place, Config, SHAPES, Model, gpt, EncoderDecoder
    gradcheck   check, assert_gradients
    training    OPTIMIZERS, AdamW, Recipe, Alone, train_step, evaluate
    sampling    generate, fill, beam_search
    files       load, save
    ranks       on_ranks
    errors      BadInput, RunFailed

>>> import minimega as mm
>>> model = mm.gpt(mm.Config(vocab_size=10, d_model=8, nhead=2)).draw(seed=0)
>>> inputs, targets = np.array([[1, 2, 3]]), np.array([[2, 3, 4]])
>>> record = mm.train_step(model, mm.AdamW(), mm.Recipe(steps=1), 1, inputs, targets)
>>> sorted(record)
['grad_norm', 'loss', 'lr']
"""

# ruff: isort: off
from typing import TYPE_CHECKING
import minimega.ranks.path  # first: makes the imports below find Python's own modules
from minimega.data.corpus import open_corpus
from minimega.data.tokens import tokenize, train as train_tokenizer
from minimega.data.windows import Batches, Windows
from minimega.data.masked import masking_for
from minimega.autograd import Tensor, backward, no_grad, op, recompute, saved_bytes
from minimega.parameter import Parameter
from minimega.layer import Layer, Place, place
from minimega.model import SHAPES, Config, Model, gpt
from minimega.seq2seq.model import EncoderDecoder
from minimega.gradcheck import assert_gradients, check
from minimega.optim import OPTIMIZERS, AdamW
from minimega.train import Alone, Recipe, evaluate, train_step
from minimega.sample import fill, generate
from minimega.seq2seq.beam import beam_search
from minimega.errors import BadInput, RunFailed
# ruff: isort: on

if TYPE_CHECKING:  # what __getattr__ imports when it is asked for
    from minimega.checkpoint.front import load, save
    from minimega.ranks.threads import on_ranks

    __version__: str


def __getattr__(name: str):
    """Names that few programs use: imported when they are asked for."""
    if name in ("load", "save"):  # safetensors would slow --help down
        from minimega.checkpoint import front

        return getattr(front, name)
    if name == "__version__":
        from importlib.metadata import version

        return version("minimegatron")
    if name == "on_ranks":
        from minimega.ranks.threads import on_ranks

        return on_ranks
    raise AttributeError(f"minimega has no {name}")
