"""``python -m gmmrec``: the command, where it is not on the path."""

import sys

from gmmrec.cli.main import main

sys.exit(main())
