"""Random use of the command line, to find what a user would: `python -m tests.campaign --seed 7`.

case.py    a case as data, its words and its line for a shell      draw.py    cases from a seed
world.py   the folder in which a case runs, and how to damage it   oracle.py  what must hold afterwards
run.py     one case: prepare, run, judge, shrink
"""
