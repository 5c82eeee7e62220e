"""``python -m gmmrec``: the ``gmmrec`` command, for when it is not on the path."""

import sys

from gmmrec.cli.main import main

sys.exit(main())
