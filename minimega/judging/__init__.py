"""How good texts are: BLEU, ROUGE, diversity, copying, ratings by people, confidence intervals."""
