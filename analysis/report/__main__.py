"""Run `python -m analysis.report`."""

import sys

from analysis.report.report import main

sys.exit(main())
