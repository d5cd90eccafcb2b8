"""`python -m minimega` is the command `minimega`."""

import sys

from minimega.commands.cli import main

sys.exit(main())
