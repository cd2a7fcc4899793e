"""Run `python -m data.compose`."""

import sys

from data.compose.compose import main

sys.exit(main())
