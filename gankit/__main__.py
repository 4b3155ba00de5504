"""``python -m gankit``: the command, for launchers (``torchrun -m gankit train …``) that want a module."""

import sys

from gankit.cli import main

if __name__ == "__main__":
    sys.exit(main())
