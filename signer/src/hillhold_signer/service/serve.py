"""Running a replica: uvicorn, with signals that let what is under way end."""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

import uvicorn

from hillhold_signer.errors import StorageError
from hillhold_signer.service import tls
from hillhold_signer.service.app import STOP, create_app
from hillhold_signer.service.logs import configure, logger
from hillhold_signer.service.service import Service
from hillhold_signer.service.settings import Settings
from hillhold_signer.service.wire import WireProtocol
from hillhold_verifier.errors import HillholdError

MAX_CONNECTIONS: Final = 512
"""Connections at once; beyond, the answer is 503. Files, too, are open by this number: 1024 is what a process may have as a rule."""


GARBAGE: Final = 20_000
"""Objects that are made between two looks for garbage: JSON of metadata is thousands, and none of it in cycles."""


def run(settings: Settings, host: str, port: int, ask: Callable[[str], str]) -> int:
    """Serve until a signal comes; returns an exit code.

    Raises:
        ConfigRefused, KeyRefused, StorageError: see `Service`; or the address is not free.
    """
    configure(sys.stderr, readable=sys.stderr.isatty())
    log = logger("worker")

    def report(task: str, error: Exception) -> None:
        expected = isinstance(error, HillholdError)
        log.warning(
            "a task failed, and is tried again", task=task, error=str(error), exc_info=None if expected else error
        )

    service = Service(settings, ask, report)
    service.publisher.check_keys()
    listening = _listen(host, port)
    scheme = "http" if settings.tls is None else "https"
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    logger("serve").info("serving", address=address, database=str(service.data.database))
    config = uvicorn.Config(create_app(service), log_config=None, **{**options(), **_tls(settings)})
    server = uvicorn.Server(config)
    gc.collect()
    gc.freeze()  # what was loaded stays: it need not be looked through again and again
    gc.set_threshold(GARBAGE, 20, 20)
    server.run(sockets=[listening])
    return 0 if server.started else 3


def options() -> dict[str, Any]:
    """Return what uvicorn is told everywhere."""
    return {
        "http": WireProtocol,
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,  # whose headers count is decided in `certificates`
        "timeout_graceful_shutdown": int(STOP),
        "timeout_keep_alive": 30,
        "limit_concurrency": MAX_CONNECTIONS,
    }


def _tls(settings: Settings) -> dict[str, Any]:
    if settings.tls is None:
        return {}
    return tls.settings(settings.tls.certificate, settings.tls.key, settings.tls.clients)


def _listen(host: str, port: int) -> socket.socket:
    """Take the address before the service is there, so that who finds it taken has started nothing."""
    try:
        found = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512
        )
    except OSError as error:
        hint = "another program listens there; choose another with --listen"
        raise StorageError(f"cannot listen on {host}:{port}: {error.strerror or error}", hint=hint) from error
    found.set_inheritable(True)
    return found
