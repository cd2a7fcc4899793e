"""Run `python -m analysis.export`."""

import sys

from analysis.export.export import main

sys.exit(main())
