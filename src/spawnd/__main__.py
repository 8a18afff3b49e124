"""``python -m spawnd`` is ``spawnd``."""

import sys

from spawnd.cli import main

sys.exit(main())
