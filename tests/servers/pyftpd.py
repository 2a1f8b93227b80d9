"""pyftpdlib's server: FTP with MLSD and with TLS of either kind."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from tests.servers.ftp import TLS, FTPServer, make_certificates
from tests.servers.process import LOOPBACK, listening_port, running, say_listening

USERNAME = "tester"
PASSWORD = "p@ss: w/rd%41"
EVERYTHING = "elradfmwMT"


@contextmanager
def pyftpd(folder: Path, tls: TLS = None) -> Iterator[FTPServer]:
    """The server. With TLS it takes no password and no data that are not encrypted."""
    assert tls is None or tls in get_args(get_args(TLS)[0])
    root = folder / "root"
    root.mkdir(parents=True, exist_ok=True)
    certificates = make_certificates(folder) if tls else None
    files = [str(certificates.server), str(certificates.key)] if certificates else []
    arguments = json.dumps([str(root), tls, *files])
    with running(["tests.servers.pyftpd:serve", arguments], folder / "pyftpd.log", listening_port) as port:
        yield FTPServer(LOOPBACK, port, USERNAME, PASSWORD, root, certificates.authority if certificates else None)


def serve() -> None:
    """Serve what the command line's JSON says, in the child process."""
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
    from pyftpdlib.servers import FTPServer as Server

    class Explicit(TLS_FTPHandler):
        tls_control_required = True
        tls_data_required = True

    class Implicit(Explicit):
        def handle(self) -> None:
            self.secure_connection(self.ssl_context)

        def handle_ssl_established(self) -> None:
            super().handle()

    root, tls, *files = json.loads(sys.argv[1])
    handler = {None: FTPHandler, "explicit": Explicit, "implicit": Implicit}[tls]
    if files:
        handler.certfile, handler.keyfile = files
    handler.authorizer = DummyAuthorizer()
    handler.authorizer.add_user(USERNAME, PASSWORD, root, perm=EVERYTHING)
    handler.auth_failed_timeout = 0
    server = Server((LOOPBACK, 0), handler)
    say_listening(server.socket.getsockname()[1])
    server.serve_forever()
