"""Typical wrong answers to lesson 01."""

SHAPES = """\
def shapes(B, T, D, H, V):
    return {{
        "tokens": (B, T),
        "vectors": {vectors},
        "attention weights": {weights},
        "inside the MLP": {wide},
        "logits": {logits},
        "loss": {loss},
    }}
"""


def shapes(
    vectors: str = "(B, T, D)",
    weights: str = "(B, H, T, T)",
    wide: str = "(B, T, 4 * D)",
    logits: str = "(B, T, V)",
    loss: str = "()",
) -> str:
    return SHAPES.format(vectors=vectors, weights=weights, wide=wide, logits=logits, loss=loss)


WRONG = [
    ("vectors without the batch", shapes(vectors="(T, D)"), r"^vectors: .* where is the batch"),
    ("vectors as long as the vocabulary", shapes(vectors="(B, T, V)"), r"^vectors: a vector has a width"),
    ("vectors turned", shapes(vectors="(T, B, D)"), r"^vectors: the lengths are right, but .* order"),
    ("the weights of one head", shapes(weights="(B, T, T)"), r"^attention weights: this is one head's"),
    ("a head's vectors", shapes(weights="(B, H, T, D // H)"), r"^attention weights: these are a head's"),
    ("weights without the batch", shapes(weights="(H, T, T)"), r"^attention weights: .* where is the batch"),
    ("a weight a token", shapes(weights="(B, H, T)"), r"^attention weights: .* to a pair of tokens$"),
    ("the heads last", shapes(weights="(B, T, T, H)"), r"^attention weights: the lengths are right"),
    ("no wider inside", shapes(wide="(B, T, D)"), r"^inside the MLP: .* inside it is wider"),
    ("as wide as there are heads", shapes(wide="(B, T, H * D)"), r"^inside the MLP: .* has no heads"),
    ("vectors for scores", shapes(logits="(B, T, D)"), r"^logits: these are still vectors"),
    ("one guess per sentence", shapes(logits="(B, V)"), r"^logits: this is one guess per sentence"),
    ("a loss for each token", shapes(loss="(B, T)"), r"^loss: each token has its own loss"),
    ("a row of one loss", shapes(loss="(1,)"), r"^loss: this is a row with one number"),
    ("the loss as a number", shapes(loss="1"), r'^the shape of "loss" is not a tuple but of type int$'),
    ("numbers for letters", shapes(vectors="(1, 5, 32)"), r"^vectors: right for the sentence of this lesson"),
    (
        "one number for a letter",
        shapes(wide="(B, T, 128)"),
        r"^inside the MLP: right for the sentence of this",
    ),
    ("the logits left for later", shapes(logits="..."), r'^not written yet: the shape of "logits"'),
    ("one part left for later", shapes(logits="(B, T, ...)"), r'^not written yet: a part of .* "logits"'),
    ("no return", "def shapes(B, T, D, H, V): {}", r"is a `return` missing"),
]
