"""``python -m fleetmon``: the same as the command ``fleetmon``."""

from __future__ import annotations

import sys

from fleetmon.cli import main

if __name__ == "__main__":
    sys.exit(main())
