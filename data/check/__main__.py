"""Run `python -m data.check`."""

import sys

from data.check.check import main

sys.exit(main())
