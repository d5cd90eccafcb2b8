"""The process that runs a learner's code: see sandbox.py."""

import sys

from minimega.learn.sandbox import main

sys.exit(main(sys.argv[1]))
