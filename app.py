"""The web app: recognise digits by microphone, stream, file or batch; history, settings, an API.

    python app.py                            opens the page in the browser
    python app.py --port 8000 --no-browser
    python app.py --host 0.0.0.0 --certificate cert.pem --key key.pem     for other machines
    DIGITS_AUTH=name:password python app.py --host 0.0.0.0                with a password

The API's page is at /docs, metrics at /metrics; web/dist, where it is built, at /web. Nothing is
loaded from elsewhere and nothing is sent there. History, settings and the clips that you label are
kept in live_recordings/. Ctrl-C or SIGTERM ends it when what is being answered is answered.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import config
import utils
from webapp.settings import LOOPBACK, ServerSettings

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from webapp.service import RecognitionService

WEB = config.PROGRAM_DIR / "web" / "dist"
"""The page that recognises in the browser itself, where it is built."""
SHUTDOWN_SECONDS = 20
"""s that requests may still take once the server is to end; open pages don't hold it up longer."""


def run(settings: ServerSettings) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    from webapp.service import RecognitionService

    settings.decision.model_files()  # none: told at once
    with tempfile.TemporaryDirectory(prefix="digits-", ignore_cleanup_errors=True) as folder:
        # what is uploaded goes there, and with it
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        with listening_socket(settings) as listening:
            service = RecognitionService(settings)
            loading = threading.Thread(target=load_networks, args=(service,))
            loading.start()  # while the pages are laid out
            try:
                server = make_server(make_app(service, Path(folder)), settings)
                server.run([listening])
            finally:
                loading.join()
                service.close()
    return 0 if server.started else 1


def listening_socket(settings: ServerSettings) -> socket.socket:
    """The socket to listen on. What is sent leaves at once: asyncio sees to that only for its own.

    Raises
    ------
    UserError : the port is taken, or not allowed; no such address
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        made = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise config.UserError(
            f"can't listen on {settings.host}, port {settings.port}: {error.strerror or error}; "
            "another one is taken with --port"
        ) from None
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # who connects inherits it
    return made


def load_networks(service: RecognitionService) -> None:
    """Load the networks; why they can't be is told here, and again to who asks."""
    try:
        service.recognizer()
    except config.UserError as error:
        print(f"error: {utils.printable(error)}", file=sys.stderr)


def make_app(service: RecognitionService, folder: Path) -> ASGIApp:
    """The whole application: protection, API, pages; `folder` holds what is passing."""
    from webapp.gradio_import import import_gradio

    gradio = import_gradio()  # reads the environment

    from starlette.staticfiles import StaticFiles

    from webapp import pages
    from webapp.api import make_api
    from webapp.monitoring import AccessLog
    from webapp.security import Guard

    settings = service.settings
    api = make_api(service)
    if WEB.is_dir():
        api.mount("/web", StaticFiles(directory=WEB, html=True))
    blocks = pages.build(service, folder)
    app = gradio.mount_gradio_app(api, blocks, path="/", **pages.options(settings, folder))
    blocks.has_launched = True  # Gradio reads nothing but uploads only then
    return Guard(app, settings, service.metrics, AccessLog(settings.access_log))


def make_server(app: ASGIApp, settings: ServerSettings) -> uvicorn.Server:
    """The server, which tells its address and opens the browser once it listens."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                port = self.servers[0].sockets[0].getsockname()[1]
                announce(settings, port)

    return Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_level="error",
            access_log=False,
            server_header=False,
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.key,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
    )


def announce(settings: ServerSettings, port: int) -> None:
    """Say where the page is, and open it."""
    scheme = "https" if settings.certificate else "http"
    name = settings.host if settings.host in LOOPBACK else "127.0.0.1"
    address = f"{scheme}://{f'[{name}]' if ':' in name else name}:{port}"
    print(f"ready: {address}   API: {address}/docs   Ctrl-C ends", flush=True)
    if settings.host not in LOOPBACK and not settings.credentials:
        print(
            "warning: other machines can reach this without a password; set "
            "DIGITS_AUTH=name:password",
            file=sys.stderr,
        )
    if settings.browser:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


if __name__ == "__main__":
    utils.main(run, ServerSettings, __doc__)
