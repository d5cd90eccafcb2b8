"""BLEU, chrF and ROUGE, by the libraries that the papers' figures come from.

BLEU: Papineni et al. 2002; chrF: Popović 2015; both by sacrebleu (Post 2018). ROUGE: Lin 2004, by
rouge-score.
sacrebleu's figures go from 0 to 100, those of ROUGE from 0 to 1.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from minimega.data.scripts import count_all, main_script
from minimega.errors import BadInput, extra
from minimega.judging.bootstrap import Figure, mean_of
from minimega.judging.words import words

BLEU_TOKENIZERS = "auto", "13a", "zh", "intl", "char", "none"
ROUGE_TOKENIZERS = "auto", "library", "words"
ROUGE = "rouge1", "rouge2", "rougeL"
BY_SCRIPT = {"han": "zh", "kana": "char", "thai": "char"}


def tokenizers(
    references: Sequence[Sequence[str]], bleu: str = "auto", rouge: str = "auto"
) -> dict[str, str]:
    """What cuts the texts into words: "bleu" (a tokenizer of sacrebleu) and "rouge" ("library" or "words").

    "auto" depends on the script of the references. BLEU: "zh" for Chinese, "char" for other scripts without
    spaces, else "13a". rouge-score's own tokenizer drops every letter that is not ASCII: "words" (words in
    any script, Chinese by character; see `words.words`) replaces it where most letters are not Latin.

    >>> tokenizers([["小猫坐在垫子上"]]), tokenizers([["A cat."]])
    ({'bleu': 'zh', 'rouge': 'words'}, {'bleu': '13a', 'rouge': 'library'})
    """
    found, _ = main_script(count_all(text for row in references for text in row))
    plain = found in ("latin", "none")
    return {
        "bleu": BY_SCRIPT.get(found, "13a") if bleu == "auto" else bleu,
        "rouge": ("library" if plain else "words") if rouge == "auto" else rouge,
    }


def figures(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], bleu: str = "auto", rouge: str = "auto"
) -> dict[str, Figure]:
    """The scores of N texts, each with one or more references: bleu, chrf, rouge1, rouge2 and rougeL.

    With several references, BLEU counts n-grams of any of them; chrF and ROUGE take a text's best. `bleu` and
    `rouge` choose the tokenizers. Raises BadInput if the numbers differ or a text has no reference.

    >>> scores = figures(["The cat sat on the mat."], [["The cat sat on a mat."]])
    >>> round(scores["bleu"].value, 2), round(scores["rouge1"].value, 3)
    (48.89, 0.833)
    """
    check(hypotheses, references)
    chosen = tokenizers(references, bleu, rouge)
    return {
        **_sacrebleu(hypotheses, references, chosen["bleu"]),
        **_rouge(hypotheses, references, chosen["rouge"]),
    }


def check(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Raise BadInput unless there is a text, and at least one reference for each."""
    if len(hypotheses) != len(references):
        raise BadInput(
            f"there are {len(hypotheses)} hypotheses and {len(references)} references: "
            f"the references of hypothesis n must be in line n"
        )
    if not hypotheses:
        raise BadInput("there are no hypotheses to score: give at least one")
    for n, row in enumerate(references, 1):
        if not any(text.strip() for text in row):
            raise BadInput(f"the reference of hypothesis {n} is empty: give a text, or leave out both")


def _of_sums(metric, sums: np.ndarray) -> float:
    return metric._compute_score_from_stats(sums.tolist()).score


def _sacrebleu(hypotheses, references, tokenizer: str) -> dict[str, Figure]:
    metrics = extra("sacrebleu.metrics", "sacrebleu")
    most = max(map(len, references))
    # sacrebleu wants a list per reference, not per text; None where a text has fewer of them
    columns = [
        [row[i] if i < len(row) and row[i].strip() else None for row in references] for i in range(most)
    ]
    found = {}
    for name, metric in {
        "bleu": metrics.BLEU(tokenize=tokenizer, force=True),
        "chrf": metrics.CHRF(),
    }.items():
        parts = np.array(metric._extract_corpus_statistics(hypotheses, columns), np.int64)
        found[name] = Figure(parts, partial(_of_sums, metric))
    return found


def _rouge(hypotheses, references, tokenizer: str) -> dict[str, Figure]:
    scorer = extra("rouge_score.rouge_scorer", "rouge-score").RougeScorer
    scorer = scorer(list(ROUGE), tokenizer=None if tokenizer == "library" else _Words())
    rows = [
        scorer.score_multi([r for r in row if r.strip()], text)
        for text, row in zip(hypotheses, references, strict=True)
    ]
    return {name: mean_of([row[name].fmeasure for row in rows]) for name in ROUGE}


class _Words:
    """What rouge-score takes as a tokenizer: lower-case words of any script, without punctuation."""

    def tokenize(self, text: str) -> list[str]:
        return [word for word in words(text.lower()) if word[0].isalnum() or word[0] == "_"]
