"""`python -m inpaint_core COMMAND`: the same as `inpaint COMMAND`, also where the package is not installed."""

import sys

from inpaint_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
