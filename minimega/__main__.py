"""`python -m minimega` is the command `minimega`."""

import sys

from minimega.cli import main

sys.exit(main())
