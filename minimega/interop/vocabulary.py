"""tokenizer.json of Hugging Face (or vocab.json and merges.txt) <-> a Tokenizer.

Byte pairs are the same thing in both: the table of tokens and the list of merges stay as they are, and only
the token that begins a text changes its id (see gpt2.py). Words and characters are written as a table that
their library knows, cut by the same rule; such a file is read back as what it was.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Library

from minimega.data.byte_pairs import BytePairs
from minimega.data.scripts import SPACELESS
from minimega.data.tokens import NAMES, SPECIAL, START, UNKNOWN, Tokenizer, Vocabulary
from minimega.errors import BadInput, shown
from minimega.interop.settings import read_json

PAIRS = ("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")  # the second: OpenAI's own names
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
# The rules of data/tokens.py as their library (Oniguruma) writes them: \w and \s there are other sets.
LETTER, SPACE = rf"[\p{{L}}\p{{N}}_&&[^{SPACELESS}]]", r"[\s\x1c-\x1f]"
CUTS = {
    "char": (r"[\s\S]", "Isolated", False),
    "word": (
        rf" ?{LETTER}+(?:['\u2019]{LETTER}+)*| ?[^\p{{L}}\p{{N}}_\s\x1c-\x1f]|{SPACE}|[{SPACELESS}]",
        "Removed",
        True,
    ),
    "whitespace": (rf"{SPACE}+", "Removed", False),
}


def cut(kind: str) -> dict:
    """The `pre_tokenizer` that cuts a text as this kind of tokenizer does."""
    pattern, behaviour, invert = CUTS[kind]
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behaviour, "invert": invert}


def read(folder: Path, start: int) -> Tokenizer:
    """The tokenizer of a folder, with the token that begins a text (there `start`) moved to 0.

    Raises BadInput if there is none, or it is damaged or of a kind that minimega does not have.
    """
    path = folder / "tokenizer.json"
    content = read_json(path) if path.exists() else _from_pairs(folder, start)
    model = content.get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    try:
        if kind == "WordLevel" and start == START:
            return _words(content)
        if kind != "BPE":
            raise BadInput(f"a tokenizer of type {shown(kind)}; import-hf reads byte-level BPE, as of GPT-2")
        _check_bytes(content)
        return _byte_pairs(content, start)
    except BadInput as why:
        raise BadInput(f"{path}: {why}") from None
    except Exception as why:  # the `tokenizers` library raises plain Exceptions
        raise BadInput(f"{path} cannot be read as a tokenizer: {shown(str(why))}") from None


def _check_bytes(content: dict) -> None:
    """Raise BadInput for what would change the text, or cut it in another way than by lines."""
    steps = content.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    for step in steps:
        if step.get("type") not in ("ByteLevel", "Split", "Digits"):
            raise BadInput(f"its pre_tokenizer is {shown(step.get('type'))}; GPT-2 has ByteLevel")
        if step.get("add_prefix_space"):
            raise BadInput("it sets add_prefix_space, which minimega has no counterpart for")
    if "ByteLevel" not in [step.get("type") for step in steps]:
        raise BadInput("its pre_tokenizer is not byte-level, as that of GPT-2 is")
    if (content.get("decoder") or {}).get("type") != "ByteLevel":
        raise BadInput("its decoder is not byte-level, as that of GPT-2 is")
    if content.get("normalizer"):
        raise BadInput("it has a normalizer, which changes the text; minimega has no counterpart for it")


def _byte_pairs(content: dict, start: int) -> BytePairs:
    library = Library.from_str(json.dumps(content))
    name = library.id_to_token(start)
    if name is None:
        raise BadInput(f"it has no token {start}, which begins a text according to config.json")
    if sorted(library.get_vocab().values()) != list(range(library.get_vocab_size())):
        raise BadInput("its ids have gaps")
    library.add_special_tokens([name])  # no text may encode to it
    content = exchanged(json.loads(library.to_str()), start)
    specials = {t["content"]: t["id"] for t in content["added_tokens"] if t["special"] and t["id"] != START}
    named = {n: i for n, i in specials.items() if SPECIAL.fullmatch(n) and n not in NAMES}
    return BytePairs(Library.from_str(json.dumps(content)), named, start)


def exchanged(content: dict, start: int) -> dict:
    """A tokenizer.json with the ids of the tokens 0 and `start` swapped."""
    if start == 0:
        return content
    other = {0: start, start: 0}
    added = [{**token, "id": other.get(token["id"], token["id"])} for token in content["added_tokens"]]
    vocab = content["model"]["vocab"]
    if start not in vocab.values():  # only among the added: all get their place in the table
        vocab = vocab | {token["content"]: token["id"] for token in content["added_tokens"]}
    vocab = {token: other.get(i, i) for token, i in vocab.items()}
    added.sort(key=lambda token: token["id"])
    return {**content, "added_tokens": added, "model": {**content["model"], "vocab": vocab}}


def _from_pairs(folder: Path, start: int) -> dict:
    """The content of a tokenizer.json, from the two files in which GPT-2 was published."""
    for table, merges in PAIRS:
        if (folder / table).exists() and (folder / merges).exists():
            break
    else:
        raise BadInput(f"{folder} holds no tokenizer: neither tokenizer.json nor vocab.json and merges.txt")
    vocab = read_json(folder / table)
    if not all(type(i) is int for i in vocab.values()):
        raise BadInput(f"{folder / table} does not give each token a whole number")
    try:
        lines = (folder / merges).read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as why:
        raise BadInput(f"{folder / merges} cannot be read: {why}") from None
    pairs = [
        line.rstrip("\r").split(" ") for line in lines if line.strip() and not line.startswith("#version")
    ]
    if wrong := next((pair for pair in pairs if len(pair) != 2), None):
        raise BadInput(f"{folder / merges}: {shown(' '.join(wrong))} is not a pair of tokens")
    names = [token for token, i in vocab.items() if i == start]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(name, start) for name in names],
        "normalizer": None,
        "pre_tokenizer": BYTES,
        "post_processor": None,
        "decoder": BYTES,
        "model": {"type": "BPE", "vocab": vocab, "merges": pairs},
    }


def _added(name: str, number: int) -> dict:
    how = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": name, **how}


def _words(content: dict) -> Vocabulary:
    """A tokenizer that `written` made."""
    kind = next((kind for kind in CUTS if cut(kind) == content.get("pre_tokenizer")), None)
    ids = {i: token for token, i in content["model"]["vocab"].items()}
    named = {token["content"]: token["id"] for token in content["added_tokens"] if token["id"] > UNKNOWN}
    if kind is None or [ids.get(i) for i in (START, UNKNOWN)] != NAMES:
        raise BadInput("its words are cut in a way that minimega does not have")
    return Vocabulary(kind, [ids[i] for i in sorted(ids) if i > UNKNOWN and i not in named.values()], named)


def written(tokenizer: Tokenizer, context: int) -> dict[str, dict]:
    """The contents of tokenizer.json and tokenizer_config.json. Raises BadInput if they cannot hold it."""
    if isinstance(tokenizer, BytePairs):
        content = exchanged(tokenizer.tokens, tokenizer.origin)
        start = tokenizer.library.id_to_token(START)
        unknown = NAMES[UNKNOWN] if tokenizer.unknown is not None else start
    else:
        content, (start, unknown) = _as_words(tokenizer), NAMES
    return {
        "tokenizer.json": content,
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": start,
            "eos_token": start,
            "unk_token": unknown,
            "model_max_length": context,
            "clean_up_tokenization_spaces": False,
        },
    }


def _as_words(tokenizer: Any) -> dict:
    special = dict(zip(NAMES, (START, UNKNOWN), strict=True)) | tokenizer.named
    if both := sorted(special.keys() & set(tokenizer.tokens)):
        raise BadInput(f"the vocabulary has {both[0]} as a word too: Hugging Face cannot tell the two apart")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(name, i) for name, i in sorted(special.items(), key=lambda pair: pair[1])],
        "normalizer": None,
        "pre_tokenizer": cut(tokenizer.kind),
        "post_processor": None,
        "decoder": None if tokenizer.kind == "whitespace" else {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": special | tokenizer._ids, "unk_token": NAMES[UNKNOWN]},
    }
