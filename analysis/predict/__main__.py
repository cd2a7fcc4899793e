"""Run `python -m analysis.predict`."""

import sys

from analysis.predict.predict import main

sys.exit(main())
