"""`crrmon run`, told to write down where its CPU time goes; everything else is as it always is.

python bench/wrapped.py --config FILE --profile FILE
"""

import argparse
import sys
from pathlib import Path

from crrmon.__main__ import main as crrmon
from profiles import profiled


def main() -> None:
    """Run the daemon until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", required=True)
    parser.add_argument("--profile", type=Path, required=True)
    asked = parser.parse_args()
    sys.argv = ["crrmon", "run", "--config", asked.config]
    with profiled(asked.profile):
        crrmon()


if __name__ == "__main__":
    main()
