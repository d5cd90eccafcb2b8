"""How good texts are: BLEU, ROUGE, diversity, copying, ratings by people, confidence intervals.

    judge(texts, references)            every score of a list of texts; versus(a, b) compares two lists
    copying.copied(texts, documents)    the wording that texts share with the training text
    exposure.exposure(model, ...)       whether a secret of the training text comes out
    sheet.sheet(systems)                a page on which people rate; ratings.summary reads the ratings back

>>> judged = judge(["a cat sat on the mat"], [["the cat sat on the mat"]])
>>> round(judged.values["bleu"], 2), judged.values["rouge1"]
(75.98, 0.8333333333333334)
"""

from minimega.judging.report import judge, versus
