"""Labels words by their hidden states: is this one a who, a thing or a place?

    python examples/label_words.py                  (a quarter of a minute on one core)
    python examples/label_words.py --steps 1500     (a better language model)

The grammar of the tales knows which words are persons, things and places. A linear classifier learns it from
two thirds of these words and is asked about the others, in other tales. It is asked twice: about words that
the language model knows, and about words that it has never seen (here every person, thing and place is the
token <unk>). A word's vector in the embedding is always the same, so all unknown words look alike. Their
hidden states differ: the words before them say what they are ("found a silver ...", "under the ...").
"""

import argparse

import numpy as np
from classify_texts import language_model, vectors

from minimega.data.corpus import Tales
from minimega.data.tales_en import GRAMMAR, MEN, WOMEN
from minimega.vectors.probe import fitted


def of(*rules: str) -> set[str]:
    """The last words of all options of these rules, as a text has them: the things, of all their looks."""
    return {" " + option.split()[-1] for rule in rules for option in GRAMMAR[rule].split("|")}


KINDS = {
    "who": {f" {name}" for name in f"{WOMEN}|{MEN}".split("|")} | of("trade"),
    "thing": of(*GRAMMAR["look"].split("|"), *GRAMMAR["trade"].split("|")),
    "place": of(*GRAMMAR["where"].split("|")),
}
KIND = {word: number for number, words in enumerate(KINDS.values()) for word in sorted(words)}
ASKED = set(sorted(KIND)[::3])  # every third word is held out


def main(steps: int, tales: int) -> None:
    model, tokenizer = language_model(steps)
    numbers = {int(tokenizer.encode(word)[0]): kind for word, kind in KIND.items()}
    asked = {int(tokenizer.encode(word)[0]) for word in ASKED}
    seen, other = (
        [tokenizer.encode(text) for text in Tales(tales, first=n).documents()] for n in (100_000, 200_000)
    )
    print(f"\n{len(KIND)} words are a {', a '.join(KINDS)}; {len(asked)} of them are held out")

    def states(texts: list[np.ndarray], words: set[int], known: bool, layer: int) -> np.ndarray:
        """The vector of each of these words in the texts, known to the model or not."""
        read = [np.where(~known & np.isin(ids, list(numbers)), tokenizer.unknown, ids) for ids in texts]
        return np.concatenate(vectors(model, read, layer))[np.isin(np.concatenate(texts), list(words))]

    def kinds(texts: list[np.ndarray], words: set[int]) -> np.ndarray:
        return np.array([numbers[i] for ids in texts for i in ids.tolist() if i in words])

    y, right = kinds(seen, numbers.keys() - asked), kinds(other, asked)
    print("\nshare of right labels                known words   unknown words")
    most = f"{(right == np.bincount(y).argmax()).mean():13.1%}"
    print(f"always the most common kind      {most}   {most}")
    for layer in range(model.config.num_layers + 1):
        shares = []
        for known in (True, False):
            probe = fitted(states(seen, numbers.keys() - asked, known, layer), y, len(KINDS))
            shares.append((probe.kinds(states(other, asked, known, layer)) == right).mean())
        name = f"hidden states after block {layer}" if layer else "vectors of the embedding"
        print(f"the {name:29}" + "   ".join(f"{share:13.1%}" for share in shares))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300, help="steps of the language model")
    parser.add_argument("--tales", type=int, default=100, help="tales to learn from, and as many to judge")
    given = parser.parse_args()
    main(given.steps, given.tales)
