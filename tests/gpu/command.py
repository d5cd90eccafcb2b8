"""minimega's command line on the stand-in for CuPy: `python -m tests.gpu.command train --device cuda ...`."""

import sys

from minimega.commands.cli import main
from tests.gpu import standin

if __name__ == "__main__":
    with standin.installed():
        sys.exit(main())
