"""One file per lesson, eNN_name.py, found by its name:

TASK      what the learner writes, in a sentence
HINT      the next thought, not the answer
SOLUTION  the cell, solved
GIVEN     names that the cell may use besides np, mm and op (optional)
judge     a Verdict on the learner's function, made with the helpers in minimega/learn/verdict.py and again.py

The cell of the lesson that is tagged `exercise` is the stub: its first function is judged.
"""
