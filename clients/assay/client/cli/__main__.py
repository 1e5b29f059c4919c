"""`python -m assay.client.cli`."""

import sys

from assay.client.cli.main import main

sys.exit(main())
