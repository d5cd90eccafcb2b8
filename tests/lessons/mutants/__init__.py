"""Wrong answers made by machine: `python -m tests.lessons.mutants` changes solutions, one place at a time.

changes.py   one change at a time: operators, axes, signs, orders, constants, names, terms, kept values
trial.py     what the judge says of a changed solution, in a process of its own and within a time limit
inputs.py    random inputs for each lesson: does a change that passes make any difference?
same.py      compares what a changed solution and the solution give

A change that passes and makes a difference is a hole in the judge.
"""
