"""Two languages from a grammar: an encoder-decoder learns to translate, and a decoder-only model beside it.

    python examples/translate.py                        (half a minute on one core)
    python examples/translate.py --picture attention.png
    python examples/translate.py --long                 (from fewer pairs too: two minutes)
    python examples/translate.py --pairs pairs.jsonl    (writes the pairs, for `minimega train`, and ends)

The source is plain English, the target an invented language, Nessic. Word by word nobody could translate it:

- the verb comes last, the place first, and words such as "near" follow their noun;
- adjectives, articles and verbs agree with one of three classes of nouns, and with their number;
- one word becomes two ("farmer": "man of-field"), two become one ("two birds" has a dual form), and
  negation surrounds the verb.

Each sentence has exactly one translation, so the share of exact ones says how well a model does.
"""

import argparse
import json
import sys

import numpy as np

import minimega as mm
from minimega import random
from minimega.data.tokens import START, UNKNOWN
from minimega.pictures.attention import attention_picture
from minimega.seq2seq.attention import looked_at
from minimega.seq2seq.beam import beam_search
from minimega.seq2seq.pairs import Pairs
from minimega.train import train

# English: the stem of the word or words in Nessic, and the class of a noun
NOUNS = {
    "farmer": ("mer vado", 0),
    "king": ("rogan", 0),
    "child": ("timel", 0),
    "bird": ("kel sulu", 1),
    "dog": ("huvan", 1),
    "fox": ("ruskil", 1),
    "horse": ("rokan", 1),
    "stone": ("gond", 2),
    "boat": ("kirya", 2),
    "lamp": ("kal mina", 2),
    "apple": ("orvan", 2),
    "ring": ("korm", 2),
}
PLURALS = {"child": "children", "fox": "foxes"}
PLACES = {"river": "duin", "forest": "taur", "house": "kot", "hill": "amun", "road": "men"}
WHERE = {"near": "ara", "behind": "kata", "in": "mi"}
ADJECTIVES = {"old": "yar", "red": "karn", "small": "pit", "white": "nim", "strong": "tulk", "quiet": "sed"}
VERBS = {  # third person, plain form and past; the last two stems are two words
    ("sees", "see", "saw"): "ken",
    ("finds", "find", "found"): "tuv",
    ("follows", "follow", "followed"): "hil",
    ("hears", "hear", "heard"): "las",
    ("loves", "love", "loved"): "mel enya",
    ("takes", "take", "took"): "map oro",
}
SINGULAR, DUAL, PLURAL = range(3)
NUMBER = ("", "u", "i")  # how a noun's first word ends
AGREES = (("o", "or"), ("a", "ar"), ("e", "er"))  # the endings by class, of one and of more
ARTICLE = ("lo", "la", "le")  # by class; "a" has no word
Texts = list[tuple[str, str]]  # sources and their targets
TENSE = {"present": (), "past": ("na",), "future": ("uva",)}


class Speaker:
    """Makes one sentence and its translation; choices are a pure function of a seed and a number."""

    def __init__(self, seed: int, number: int):
        self.numbers = iter(random.uniform(random.key(seed, "pairs", number), np.arange(40)).tolist())

    def one_of(self, options):
        """One of the options, all equally likely."""
        options = list(options)
        return options[int(next(self.numbers) * len(options))]

    def noun_phrase(self) -> tuple[list[str], list[str], int, int]:
        """A phrase in both languages, the noun's class and its number."""
        (noun, (stem, kind)), number = self.one_of(NOUNS.items()), self.one_of(range(3))
        article = (
            "two" if number == DUAL else self.one_of(("the", "a") if number == SINGULAR else ("the", "many"))
        )
        english, first, *rest = [article], *stem.split()
        nessic = [first + NUMBER[number], *rest]
        if self.one_of((True, False)):
            adjective = self.one_of(ADJECTIVES)
            english.append(adjective)
            nessic.append(ADJECTIVES[adjective] + AGREES[kind][number > 0])
        english.append(PLURALS.get(noun, noun + "s") if number else noun)
        nessic += {"the": [ARTICLE[kind]], "many": ["rim"]}.get(article, [])
        return english, nessic, kind, number

    def sentence(self) -> tuple[str, str]:
        """English and Nessic."""
        subject, who, kind, number = self.noun_phrase()
        thing, what, *_ = self.noun_phrase()
        (third, plain, past), stem = self.one_of(VERBS.items())
        tense, negated = self.one_of(TENSE), self.one_of((True, False, False))
        english = [*subject]
        if tense == "future":
            english += ["will", *["not"] * negated, plain]
        elif negated:
            english += ["did" if tense == "past" else "do" if number else "does", "not", plain]
        else:
            english.append(past if tense == "past" else plain if number else third)
        english += thing
        first, *rest = stem.split()
        verb = [*TENSE[tense], first + AGREES[kind][number > 0], *rest]
        nessic = [*who, *what, "ta", *(["u", *verb, "ka"] if negated else verb)]
        if self.one_of((True, False)):
            where, place = self.one_of(WHERE), self.one_of(PLACES)
            english += [where, "the", place]
            nessic = [PLACES[place], WHERE[where], *nessic]
        return " ".join(english), " ".join(nessic)


def sentences(count: int, seed: int = 0) -> Texts:
    """The first `count` different pairs of a seed."""
    found, number = {}, 0
    while len(found) < count:
        source, target = Speaker(seed, number).sentence()
        found[source], number = target, number + 1
    return list(found.items())


class Joined(Pairs):
    """The same pairs for a decoder-only model: source, a mark, target; only the target counts.

    The mark is the target's start token. What the source leaves free follows the target.
    """

    def take(self, which):
        """Inputs and targets (B, S + T)."""
        inputs, targets = super().take(which)
        free = inputs == START
        free[:, [0, self.source_length]] = False
        free[:, self.source_length :] = False
        order = np.argsort(free, axis=1, kind="stable")
        return np.take_along_axis(inputs, order, axis=1), np.take_along_axis(targets, order, axis=1)


def fit(config: mm.Config, windows: Pairs, held_out: Pairs, steps: int) -> mm.Model:
    """Train a model on the pairs, and print the held-out loss four times on the way."""
    model = mm.gpt(config).draw(seed=0)
    recipe = mm.Recipe(steps=steps, lr=5e-3, warmup=steps // 10, schedule="cosine")
    for record in train(model, mm.AdamW(), mm.Batches(windows, 16, seed=0), recipe):
        if record["step"] % (steps // 4) == 0:
            loss = mm.evaluate(model, held_out, 50)
            print(f"  step {record['step']:4}: held-out loss {loss:.4f} nats per token", flush=True)
    return model


def answers(model: mm.Model, prompts: list[list[int]], tokenizer, length: int, beams: int) -> list[str]:
    """The translations that a beam search finds; prompts of equal length are batched together."""
    found = {}
    for count in sorted({len(p) for p in prompts}):
        which = [n for n, p in enumerate(prompts) if len(p) == count]
        rows = np.array([prompts[n] for n in which])
        best = beam_search(model, rows, length, beams, banned=(UNKNOWN,))
        found |= {n: tokenizer.decode(b[0].tokens) for n, b in zip(which, best, strict=True)}
    return [found[n] for n in range(len(prompts))]


def bleu(texts: list[str], references: list[str]) -> str:
    """BLEU of sacrebleu, if it is installed."""
    try:
        import sacrebleu
    except ImportError:
        return "BLEU: skipped (pip install sacrebleu)"
    return f"BLEU {sacrebleu.corpus_bleu(texts, [references], tokenize='none', force=True).score:.1f}"


def draw(model: mm.Model, tokenizer, source: str, target: str, path: str) -> None:
    """Draw how much each word of the target looks at each word of the source."""
    ids, written = tokenizer.encode(source).tolist(), tokenizer.encode(target)
    weights = looked_at(model, np.array([[*model.config.prompt(ids), *written]]))
    attention_picture(path, weights, ["<start>", *source.split()], [*target.split(), "<end>"])
    print(f"  the picture: {path}")


def compare(learned: Texts, held_out: Texts, steps: int, picture: str | None = None) -> None:
    """Train both models on the pairs, and translate the held-out ones."""
    print(f"{len(learned)} pairs to learn from, {len(held_out)} held out; one of them:")
    print(*held_out[0], sep="\n")
    tokenizer = mm.train_tokenizer("whitespace", [text for pair in learned for text in pair])
    rows, other = ([[tokenizer.encode(t) for t in pair] for pair in part] for part in (learned, held_out))
    ids, wanted = [source.tolist() for source, _ in other], [target for _, target in held_out]
    sizes = {"context": 30, "source_length": 13}
    shape = {"vocab_size": tokenizer.size, "d_model": 64, "nhead": 8, "positions": "sinusoidal"}
    for name, config, kind in (
        ("encoder-decoder", mm.EncoderDecoder(**shape, **sizes), Pairs),
        ("decoder-only", mm.Config(**shape, context=30), Joined),
    ):
        print(f"{name}: {mm.gpt(config).count():,} parameters")
        model = fit(config, kind(rows, **sizes), kind(other, **sizes), steps)
        mark = [START] * (config.kind == "gpt")
        found = answers(model, [[*config.prompt(i), *mark] for i in ids], tokenizer, 20, beams=4)
        exact = sum(a == b for a, b in zip(found, wanted, strict=True)) / len(wanted)
        print(f"  held out: {bleu(found, wanted)}, exact {exact:.0%}")
        if picture and config.kind != "gpt":
            draw(model, tokenizer, held_out[0][0], found[0], picture)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help="learn from 500, 1000 and 2000 pairs too")
    parser.add_argument("--pairs", metavar="FILE", help="write the pairs as JSON lines and end")
    parser.add_argument("--picture", metavar="FILE", help="draw what each word looks at")
    o = parser.parse_args()
    pairs = sentences(4200)
    if o.pairs:
        with open(o.pairs, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"prompt": s, "completion": t}) + "\n" for s, t in pairs)
        print(f"{len(pairs)} pairs in {o.pairs}")
        return 0
    for count in (500, 1000, 2000) if o.long else ():
        compare(pairs[:count], pairs[4000:], steps=1000)
    compare(pairs[:4000], pairs[4000:], steps=1000, picture=o.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
