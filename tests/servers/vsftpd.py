"""vsftpd, as Debian has it: FTP without MLSD, and with TLS of either kind."""

import os
import pwd
import secrets
import socket
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import get_args

from tests.servers.ftp import TLS, FTPServer, make_certificates
from tests.servers.process import LOOPBACK, external, installed, on_port, running

# A real password needs one of the machine's users. This one is of an anonymous user who is let in only with a listed one.
USERNAME = "anonymous"
PASSWORD = "tester@example.com"  # as anonymous users give, and as the server takes nothing else to be one
# Seconds.
GREETING_LIMIT = 1

CONFIGURATION = """
background=NO
listen=YES
listen_address={host}
listen_port={port}
pasv_address={host}
ftpd_banner={banner}
run_as_launching_user=YES
ftp_username={user}
nopriv_user={user}
secure_chroot_dir={empty}
seccomp_sandbox=NO
local_enable=NO
anonymous_enable=YES
anon_root={root}
secure_email_list_enable=YES
email_password_file={passwords}
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_world_readable_only=NO
anon_umask=022
file_open_mode=0666
utf8_filesystem=YES
ls_recurse_enable=YES
delay_failed_login=0
xferlog_enable=YES
log_ftp_protocol=YES
vsftpd_log_file={log}
"""
TLS_CONFIGURATION = """
ssl_enable=YES
allow_anon_ssl=YES
force_anon_logins_ssl=YES
force_anon_data_ssl=YES
implicit_ssl={implicit}
require_ssl_reuse={reuse}
rsa_cert_file={certificates.server}
rsa_private_key_file={certificates.key}
ssl_ciphers=HIGH
"""


@contextmanager
def vsftpd(folder: Path, tls: TLS = None, session_reuse: bool = False) -> Iterator[FTPServer]:
    """The server, for the user of this process. Nothing holds a session in its root: `home` is the root's path.

    With TLS it takes no password and no data that are not encrypted; with `session_reuse`, data only over connections
    that resume the TLS session of the commands.
    """
    assert tls is None or tls in get_args(get_args(TLS)[0])
    root, empty, passwords = folder / "root", folder / "empty", folder / "passwords"
    for made in (root, empty):
        made.mkdir(parents=True, exist_ok=True)
    passwords.write_text(f"{PASSWORD}\n")
    certificates = make_certificates(folder) if tls else None
    program = installed("/usr/sbin/vsftpd", "vsftpd")
    user = pwd.getpwuid(os.geteuid()).pw_name
    banner = f"vsftpd {secrets.token_hex(8)}"
    configuration = folder / "vsftpd.conf"

    def start(port: int) -> AbstractContextManager[int]:
        protocol = folder / "protocol.log"
        settings = {"user": user, "empty": empty, "root": root, "passwords": passwords, "banner": banner, "log": protocol}
        text = CONFIGURATION.format(host=LOOPBACK, port=port, **settings)
        if certificates:
            implicit, reuse = (("NO", "YES")[choice] for choice in (tls == "implicit", session_reuse))
            text += TLS_CONFIGURATION.format(certificates=certificates, implicit=implicit, reuse=reuse)
        configuration.write_text(text)
        trusted = certificates.authority if certificates and tls == "implicit" else None
        command = external(program, str(configuration))
        return running(command, folder / "vsftpd.log", lambda _: port if _greets(port, banner, trusted) else None)

    with on_port(0, start) as chosen:
        authority = certificates.authority if certificates else None
        yield FTPServer(LOOPBACK, chosen, USERNAME, PASSWORD, root, authority, str(root))


def _greets(port: int, greeting: str, trusted: Path | None) -> bool:
    """Whether who listens on the port says this, over TLS if there is an authority to trust."""
    try:
        with ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection((LOOPBACK, port), GREETING_LIMIT))
            if trusted:
                context = ssl.create_default_context(cafile=trusted)
                connection = stack.enter_context(context.wrap_socket(connection, server_hostname=LOOPBACK))
            return greeting.encode() in connection.recv(200)
    except OSError:
        return False
