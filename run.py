"""Compose a configuration, check it, freeze it into a run's folder, do it: `python run.py --help`."""

import sys

from tau2_exp.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
