"""One file a lesson, eNN_name.py, found by its name:

TASK      what the learner writes, in a sentence
STUB      the cell that the learner sees; the first function in it is the one that is judged
HINT      the next thought, not the answer
SOLUTION  the cell, solved
GIVEN     names that the cell may use beside np, mm and op (optional)
judge     of the learner's function, a Verdict: made from the helpers in minimega/learn/verdict.py
"""
