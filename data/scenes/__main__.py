"""`python -m data.scenes`."""

import sys

from data.scenes.scenes import main

sys.exit(main())
