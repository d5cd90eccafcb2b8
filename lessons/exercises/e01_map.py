"""Lesson 01: the shapes on the way from tokens to the loss."""

import numpy as np

from minimega.attention import attention_weights
from minimega.layer import place
from minimega.learn.pictures import BLUE, ORANGE, picture
from minimega.learn.verdict import Verdict, written
from minimega.model import Config, gpt

TASK = "Write shapes(B, T, D, H, V): the shape at each station of the map, in these five letters."

HINT = """\
Begin with what is different at each station: of which letters is it a table? Run the cells above, and
read the shapes beside the names."""

MORE = """\
Compare the numbers that the cells above print with the letters: 1 is B, 5 is T, 32 is D, 4 is H, 231 is V.
Two shapes have the number 5 twice or a 128 in them: ask what each axis counts. A single number is not a row
of numbers: in NumPy its shape is the empty tuple."""

SOLUTION = '''\
def shapes(B, T, D, H, V):
    """The shape at each station: B sentences of T tokens, D wide, H heads, a vocabulary of V."""
    return {
        "tokens": (B, T),
        "vectors": (B, T, D),
        "attention weights": (B, H, T, T),
        "inside the MLP": (B, T, 4 * D),
        "logits": (B, T, V),
        "loss": (),
    }
'''


def draw_map(rows: list[tuple[str, tuple, int]]) -> None:
    """The lesson's picture: each station with its shape, its residual path and its parameters."""
    from matplotlib.pyplot import Rectangle

    block = ["each gathers from those before", "each is worked on alone"]
    does = ["five numbers", "a row of the table for each", *block, *block]
    does += ["all to one size", "a score for each of 231 words", "how surprised, on average"]
    bow = np.array([-0.36, -0.36, 0.4, 0.4])  # a residual path leaves above its box, and comes back below
    colors = [ORANGE if "." in name else BLUE for name, *_ in rows]
    _, (left, right) = picture(columns=2, width=8.0, height=6.8)
    for y, (name, shape, _) in enumerate(rows):
        left.add_patch(Rectangle((0, y - 0.28), 2, 0.56, fill=False, edgecolor=colors[y], linewidth=1.5))
        left.text(1, y - 0.13, name, ha="center", va="center", color=colors[y], weight="bold")
        left.text(1, y + 0.13, does[y], ha="center", va="center", fontsize=9)
        left.text(2.1, y + 0.5, "(), one number" if name == "loss" else shape, va="center")
        left.annotate("", (1, y + 0.74), (1, y + 0.28), arrowprops={"arrowstyle": "->"})
        if "." in name:
            left.plot([1, -0.2, -0.2, 0.93], y + bow, color="gray", marker=">", markersize=5, markevery=[3])
            left.text(1.06, y + 0.42, "+", va="center", color="gray")
    left.set(xlim=(-0.3, 3.1), ylim=(8.8, -0.5))
    left.axis("off")
    right.barh(range(9), [own for *_, own in rows], color=colors)
    right.text(100, 7, "the embedding's table again", va="center", fontsize=9)
    right.set(ylim=(8.8, -0.5), yticks=[], xlabel="parameters")


SENTENCE = {"B": 1, "T": 5, "D": 32, "H": 4, "V": 231}  # the lesson's own
OTHERS = {"B": 2, "T": 9, "D": 15, "H": 5, "V": 11}
OTHER = {"B": 3, "T": 7, "D": 12, "H": 2, "V": 50}  # all different, and no product of some equals another


def judge(shapes) -> Verdict:
    """Traced through a real model, in the order of the data: the first that differs is the verdict."""
    for sizes in (OTHER, SENTENCE, OTHERS):
        if verdict := _differs(shapes, sizes):
            return verdict
    return Verdict(True, "these are the shapes of a real model, for the sentence above and for other sizes")


def _differs(shapes, sizes: dict[str, int]) -> Verdict | None:
    """What is wrong first, in the order of the data; None if nothing is."""
    given = written(shapes(*sizes.values()), "what your function returns")
    if not isinstance(given, dict):
        return Verdict(False, "your function should return a dict: a name and a shape for each station")
    for name, real in _real(**sizes).items():
        if name not in given:
            return Verdict(False, f'"{name}" is missing from what your function returns')
        shape = written(given[name], f'the shape of "{name}"')
        for length in shape if isinstance(shape, tuple | list) else ():
            written(length, f'a part of the shape of "{name}"')
        shape = tuple(shape) if isinstance(shape, list) else shape
        if shape != real:
            at = ", ".join(f"{letter} = {n}" for letter, n in sizes.items())
            says = _says(name, shape, real, sizes, shapes(*SENTENCE.values())[name])
            return Verdict(False, says, f"for {at}: {name} {shape}; the model's are {real}")
    return None


def _real(B: int, T: int, D: int, H: int, V: int) -> dict[str, tuple[int, ...]]:
    """The shapes that a model of these sizes gives."""
    model = gpt(Config(vocab_size=V, context=T, d_model=D, nhead=H, num_layers=1)).draw(seed=0)
    tokens, block = np.arange(B * T).reshape(B, T) % V, model.layers["block0"]
    at = place(tokens)
    x = model.layers["embedding"](tokens, at)
    qkv = block.attention.branch.qkv(block.attention.norm(x), at).data
    q, k, _ = qkv.reshape(B, T, H, 3, D // H).transpose(3, 0, 2, 1, 4)
    wide = block.mlp.branch.up(block.mlp.norm(x), at)
    return {
        "tokens": tokens.shape,
        "vectors": x.shape,
        "attention weights": attention_weights(q, k).shape,
        "inside the MLP": wide.shape,
        "logits": model(tokens).shape,
        "loss": model.loss(tokens, tokens).shape,
    }


def _says(name: str, shape, real: tuple[int, ...], sizes: dict[str, int], of_sentence) -> str:
    """The plainest mistakes, each with its own sentence; `of_sentence` is what the lesson's sentence gets."""
    B, T, D, H, V = sizes.values()
    if not isinstance(shape, tuple):
        return f'the shape of "{name}" is not a tuple but of type {type(shape).__name__}'
    known = {
        ("vectors", (T, D)): "one sentence has these vectors; where is the batch of B of them?",
        ("vectors", (B, D)): "this is one vector per sentence; each of its tokens has its own",
        (
            "vectors",
            (B, T, V),
        ): "a vector has a width that the model chooses, not one number for each known word",
        ("attention weights", (B, T, T)): "this is one head's; each of the H heads has its own weights",
        ("attention weights", (H, T, T)): "one sentence has these weights; where is the batch of B of them?",
        (
            "attention weights",
            (B, H, T),
        ): "this is one number per token; a weight belongs to a pair of tokens",
        (
            "attention weights",
            (B, H, T, D // H),
        ): "these are a head's vectors; what is weighted by its weights?",
        ("attention weights", (B, T, D)): "this is attention's output; its weights say who listens to whom",
        ("inside the MLP", (B, T, D)): "this is what goes into the MLP and comes out; inside it is wider",
        (
            "inside the MLP",
            (B, T, D * H),
        ): "the MLP has no heads: that H is 4 in this lesson is a coincidence",
        (
            "logits",
            (B, T, D),
        ): "these are still vectors; logits are scores, one for each token that may follow",
        ("logits", (B, V)): "this is one guess per sentence; a guess is made after each of its tokens",
        ("logits", (B, T)): "this is one number per token; each word that may follow gets a score",
        ("loss", (B, T)): "each token has its own loss; what goes backward is the mean of them all",
        ("loss", (B,)): "each sentence has its own loss; what goes backward is the mean of them all",
        ("loss", (1,)): "this is a row with one number in it; the loss is a number, and has no axes",
    }
    if told := known.get((name, shape)):
        return f"{name}: {told}"
    if of_sentence == _real(**SENTENCE)[name]:
        return f"{name}: right for the sentence of this lesson only: a number stands where a letter belongs"
    if sorted(shape) == sorted(real):
        return f"{name}: the lengths are right, but their order is not"
    if len(shape) != len(real):
        axes = f"{len(real)} ax{'i' if len(real) == 1 else 'e'}s"
        return f"{name}: it has {axes if real else 'no axes'}, and yours has {len(shape)}"
    axis = next(i for i, (a, b) in enumerate(zip(shape, real, strict=True)) if a != b)
    return f"{name}: the length of axis {axis} differs"
