"""``python -m omnibase``."""

from __future__ import annotations

import sys

from omnibase.cli import main

if __name__ == "__main__":
    sys.exit(main())
