"""`python -m aqa` is the command `aqa`."""

import sys

from aqa.cli import main

sys.exit(main())
