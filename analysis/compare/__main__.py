"""Run `python -m analysis.compare`."""

import sys

from analysis.compare.compare import main

sys.exit(main())
