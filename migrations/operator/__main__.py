"""`python -m migrations.operator`."""

import sys

from migrations.operator.command import main

if __name__ == "__main__":
    sys.exit(main())
