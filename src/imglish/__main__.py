"""``python -m imglish``, and with it ``torchrun -m imglish``, is the command line."""

import sys

from imglish.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
