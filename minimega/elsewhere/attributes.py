"""Attributes that people type because another framework has them, and what to type here."""

TENSOR = {
    **dict.fromkeys(("argmax", "argmin", "argsort", "min", "std", "var"), "use .data, which is the array"),
    **dict.fromkeys(("astype", "double", "float", "half", "long"), "use Tensor(x.data.astype(...))"),
    **dict.fromkeys(("clone", "copy"), "use Tensor(x.data.copy())"),
    **dict.fromkeys(("cuda", "device", "to"), "it lives where its array does: cupy.asarray moves that"),
    "requires_grad": "every Tensor gets a gradient; constants are plain arrays",
    "view": "use .reshape",
    "permute": "use .transpose",
    "unsqueeze": "index with None: x[:, None]",
    "squeeze": "use .reshape",
    "detach": "use Tensor(x.data)",
    "cpu": "use .numpy()",
    "abs": "use (x * x).sqrt()",
    "sigmoid": "use 1 / (1 + (-x).exp())",
    "numel": "use .size",
    "zero_grad": "set .grad to None",
}
LAYER = {
    **dict.fromkeys(("train", "training"), "pass a place: net(x, mm.place(x, key=step, training=True))"),
    "eval": "nothing to do: without a place that says training=True, nothing is dropped",
    **dict.fromkeys(("to", "cuda", "cpu"), "draw(xp=cupy) puts the weights on a GPU"),
    **dict.fromkeys(("half", "float", "double", "bfloat16"), 'choose when drawing: draw(dtype="float64")'),
    **dict.fromkeys(("modules", "children", "named_modules", "named_children"), "use parts()"),
    "named_parameters": "parameters() is a dict by name",
    "zero_grad": "use zero_grad() of the optimizer",
    **dict.fromkeys(("compile", "fit"), "mm.train_step trains on a batch, mm.train.train on many"),
    "generate": "use mm.write(model, tokenizer, prompt), or mm.generate for tokens",
    "save_pretrained": "use mm.save(folder, model, tokenizer)",
    "requires_grad_": "give the optimizer only the parameters that it shall change",
}
PACKAGE = {
    "DataLoader": "use mm.Batches",
    "Module": "use mm.Layer",
    "Trainer": "use mm.train_step",
    "Variable": "use mm.Tensor",
    **dict.fromkeys(("array", "asarray", "from_numpy", "as_tensor"), "use mm.Tensor(array)"),
    **dict.fromkeys(
        ("float16", "float32", "float64", "int64", "long"), 'NumPy names the dtypes: draw(dtype="float64")'
    ),
    **dict.fromkeys(
        ("device", "cuda"), "an array lives where it was made: draw(xp=cupy) puts the weights on a GPU"
    ),
    "CrossEntropyLoss": "use mm.cross_entropy(logits, targets)",
    "sigmoid": "use 1 / (1 + (-x).exp())",
    "Sigmoid": "a function will do in a Sequential: lambda x: 1 / (1 + (-x).exp())",
    "functional": "functions stand directly in mm: mm.relu, mm.cross_entropy",
    "GPT": "use mm.gpt(mm.Config(...))",
    "Transformer": "use mm.gpt(mm.Config(...)), or mm.EncoderDecoder",
    "compile": "there is nothing to compile: NumPy computes at once",
    "arange": "use np.arange; mm.Tensor(array) collects a gradient",
    "ones": "use mm.Tensor(np.ones(...))",
    "from_pretrained": "use mm.load(folder)",
    "manual_seed": "what draws takes a seed: model.draw(seed=0)",
    "nn": "layers stand directly in mm: mm.Linear, mm.Sequential",
    "rand": "use mm.Tensor(np.random.rand(...))",
    "randn": "use mm.Tensor(np.random.randn(...))",
    "zeros": "use mm.Tensor(np.zeros(...))",
}


def lacks(owner: str, name: str, here: dict[str, str]) -> str:
    """The message of an AttributeError, with what to type instead if that is known.

    >>> lacks("Tensor", "view", TENSOR)
    'Tensor has no view: use .reshape'
    """
    return f"{owner} has no {name}" + (f": {here[name]}" if name in here else "")
