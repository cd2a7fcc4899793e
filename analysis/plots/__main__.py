"""Run `python -m analysis.plots`."""

import sys

from analysis.plots.plots import main

sys.exit(main())
