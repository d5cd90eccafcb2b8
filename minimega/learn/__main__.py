"""What each process of a learner's code does: see stage.py."""

import sys

from minimega.learn.sandbox import main

sys.exit(main(sys.argv[1]))
