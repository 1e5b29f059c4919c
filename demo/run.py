"""Mine and label real text against a live server: `make demo`, or this file with `--help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from demo.story import main

if __name__ == "__main__":
    sys.exit(main())
