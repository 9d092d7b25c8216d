"""Turns into another program that is killed when its parent dies, however that happens.

``python -m crrmon.sandbox.leash PARENT_PID COMMAND...``: the sandbox may be killed with -9, and nothing that it
started shall outlive it. A process of its own sets this up, for it cannot be done safely between fork and exec of a
program with threads. Linux only; elsewhere the command just runs.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Become the command.

    Args:
        arguments: process id of the parent, then the command.
    """
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the leash was on
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main(sys.argv[1:])
