"""`python -m anovl` is the command line."""

import sys

from anovl.cli import main

if __name__ == "__main__":
    sys.exit(main())
