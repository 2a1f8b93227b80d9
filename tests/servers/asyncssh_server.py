"""asyncssh's SFTP server, which takes a password as well as keys and shows nothing outside its root."""

import asyncio
import hmac
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.process import LOOPBACK, listening_port, running, say_listening
from tests.servers.ssh import Keys, SSHServer

USERNAME = "tester"
PASSWORD = "p@ss: w/rd%41"


@contextmanager
def asyncssh_server(folder: Path, port: int = 0, new_host_key: bool = False) -> Iterator[SSHServer]:
    """The server. In the same folder it has the same keys and files again.

    A port of 0 is any free one. With `new_host_key` it has another host key than before.
    """
    root = folder / "root"
    root.mkdir(parents=True, exist_ok=True)
    keys = Keys(folder)
    keys.make(new_host_key)
    command = ["tests.servers.asyncssh_server:serve", json.dumps([str(folder), str(root), port])]
    with running(command, folder / "asyncssh.log", listening_port) as chosen:
        yield keys.server(chosen, USERNAME, PASSWORD, root)


def serve() -> None:
    """Serve what the command line's JSON says, in the child process."""
    asyncio.run(_serve(*json.loads(sys.argv[1])))


async def _serve(folder: str, root: str, port: int) -> None:
    import asyncssh

    keys = Keys(Path(folder))
    authorized = asyncssh.read_authorized_keys(str(keys.authorized))

    class Server(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self.connection = conn

        def begin_auth(self, username: str) -> bool:
            if username == USERNAME:
                self.connection.set_authorized_keys(authorized)
            return True

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return username == USERNAME and hmac.compare_digest(password.encode(), PASSWORD.encode())

    def sftp(channel: "asyncssh.SSHServerChannel[bytes]") -> asyncssh.SFTPServer:
        return asyncssh.SFTPServer(channel, chroot=root.encode())

    server = await asyncssh.listen(
        LOOPBACK, port, server_factory=Server, server_host_keys=[str(keys.host_key)], sftp_factory=sftp, reuse_address=True
    )
    say_listening(server.get_port())
    await server.wait_closed()
