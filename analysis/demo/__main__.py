"""Run `python -m analysis.demo`."""

import sys

from analysis.demo.demo import main

sys.exit(main())
