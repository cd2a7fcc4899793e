"""`python -m data.pack`."""

import sys

from data.pack.pack import main

sys.exit(main())
