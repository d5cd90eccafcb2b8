"""What a lesson's notebook imports: checks, hints, the library's source, ranks started from a cell, pictures.

lessons/NN_name.py is a lesson, lessons/exercises/eNN_name.py its exercise; CONTRIBUTING.md explains how to
add one.
"""

from minimega.learn.page import check, hint, ranks, show, solution
from minimega.learn.pictures import BLUE, GREEN, ORANGE, PINK, Cut, picture, pieces_picture
