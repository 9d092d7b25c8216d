"""The real AWS CLI, started once: each call is a fork of a process that has read its megabytes already.

As a program: `aws_cli.py DESCRIPTOR` serves at a socket, `aws_cli.py SOCKET --ask ARGUMENTS...` is `aws ARGUMENTS...`.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

PROGRAM = Path(__file__)


def write_command(
    path: Path, served: Path, *, url: str, only_checked: tuple[str, ...] = ()
) -> None:
    """
    Write an `aws` for a shell.

    Args:
        path: of the command.
        served: the socket.
        url: of the emulator. NB: AWS_ENDPOINT_URL alone does not keep the CLI's SQS from AWS's own address.
        only_checked: services and operations that no emulator has: of them only the arguments are checked.
    """
    ask = f'{sys.executable} -ISs {PROGRAM} {served} --ask --endpoint-url {url} "$@"'
    checked = "|".join(f'"{one}"' for one in only_checked) or '""'
    path.write_text(
        f'#!/bin/sh\ncase "$1 $2" in\n'
        f"  {checked}) exec {ask} --generate-cli-skeleton output ;;\n"
        f"  *) exec {ask} ;;\nesac\n"
    )
    path.chmod(0o755)


@contextlib.contextmanager
def served(address: Path) -> Iterator[None]:
    """Serve at a socket, which takes calls from the beginning."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(address))
        server.listen(16)
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, str(PROGRAM), str(server.fileno())], pass_fds=[server.fileno()]
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _serve(descriptor: int) -> None:
    from awscli import clidriver  # noqa: PLC0415 - whoever asks must not read it

    driver = clidriver.create_clidriver()
    driver._get_command_table()  # what takes longest is read before the first call
    server = socket.socket(fileno=descriptor)
    while True:
        connection, _ = server.accept()
        if os.fork():
            connection.close()
            continue
        told, fds, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        request = json.loads(told)
        for place, fd in enumerate(fds):
            os.dup2(fd, place)
        os.chdir(request["folder"])
        # The CLI finds its own data by a variable that it set when it was read.
        data = os.environ["AWS_DATA_PATH"]
        os.environ.clear()
        os.environ.update(request["environment"], AWS_DATA_PATH=data)
        code = 255
        try:
            code = driver.main(request["arguments"])
            sys.stdout.flush()
        except BaseException:  # noqa: BLE001 - whoever called is to see it
            traceback.print_exc()
        finally:
            connection.sendall(str(code).encode())
            os._exit(0)


def _ask(address: str, arguments: list[str]) -> int:
    request = {
        "arguments": arguments,
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
    }
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
        return int(connection.recv(16) or b"255")


if __name__ == "__main__":
    if sys.argv[2:3] == ["--ask"]:
        sys.exit(_ask(sys.argv[1], sys.argv[3:]))
    _serve(int(sys.argv[1]))
