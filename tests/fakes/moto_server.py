"""moto as a server in this process, so that tests can reach into it."""

import atexit
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from threading import Thread

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.server import ThreadedMotoServer
from werkzeug.serving import make_server


@contextmanager
def moto_server() -> Iterator[str]:
    """
    Serve on a free port of loopback; give the address.
    """
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # not a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@contextmanager
def serial_moto_server() -> Iterator[str]:
    """
    Serve one request after the other: moto's DynamoDB copies its tables while other threads change them.
    """
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, request_handler=MotoRequestHandler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


_shared = ExitStack()
atexit.register(_shared.close)


@cache
def shared_moto() -> str:
    """
    Tell the address of one for all tests of this process; each takes a table of its own.
    """
    return _shared.enter_context(serial_moto_server())
