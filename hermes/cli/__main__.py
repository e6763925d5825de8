"""`python -m hermes.cli`: the `hermes` command where its script is not on the path."""

import sys

from hermes.cli import main

sys.exit(main())
