"""moto as a server in this process, so that tests can reach into it."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server


@contextmanager
def moto_server() -> Iterator[str]:
    """Serve on a free port of loopback; give the address."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # not a line for each request
    app = _with_request_ids(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _with_request_ids(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Have every answer say whose it is, as all of S3's do and moto's do not."""

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        def began(status: str, headers: list[tuple[str, str]], error: Any = None) -> Any:
            return start(status, [*headers, ("x-amz-request-id", "TX0123456789ABCD")], error)

        return app(environ, began)

    return answer
