"""`crrmon run`, told to write down where its CPU time goes, or with another wire; all else is as it always is.

python bench/wrapped.py --config FILE --profile FILE
python bench/wrapped.py --config FILE --wire aiohttp
"""

import argparse
import contextlib
import sys
from pathlib import Path

import wires
from crrmon.__main__ import main as crrmon
from profiles import profiled


def main() -> None:
    """Run the daemon until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", required=True)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--wire", choices=wires.known(), default="own")
    asked = parser.parse_args()
    sys.argv = ["crrmon", "run", "--config", asked.config]
    wires.use(asked.wire)
    with profiled(asked.profile) if asked.profile else contextlib.nullcontext():
        crrmon()


if __name__ == "__main__":
    main()
