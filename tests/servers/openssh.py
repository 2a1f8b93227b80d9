"""OpenSSH's server, as Debian has it, with SFTP and keys. It takes no passwords: they would be those of the machine's users."""

import ctypes
import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.servers.process import LOOPBACK, START_LIMIT, external, installed, on_port, running
from tests.servers.ssh import Keys, SSHServer

# From this version on a server shuts out whoever sent it a few wrong keys: here that would be loopback.
PENALTIES_SINCE = (9, 8)
PRIVILEGE_SEPARATION = Path("/run/sshd")

CONFIGURATION = """
Port {port}
ListenAddress {host}
HostKey {keys.host_key}
PidFile none
AuthorizedKeysFile {keys.authorized}
StrictModes no
AuthenticationMethods publickey
PermitRootLogin prohibit-password
UsePAM {pam}
UseDNS no
LoginGraceTime 30
MaxStartups 100
{penalties}
AllowTcpForwarding no
X11Forwarding no
PrintMotd no
Subsystem sftp internal-sftp
ForceCommand internal-sftp -d {root}
LogLevel VERBOSE
"""


@contextmanager
def openssh(folder: Path, port: int = 0, new_host_key: bool = False) -> Iterator[SSHServer]:
    """The server, for the user of this process. In the same folder it has the same keys and files again.

    A port of 0 is any free one. With `new_host_key` it has another host key than before.
    """
    root = folder / "root"
    root.mkdir(parents=True, exist_ok=True)
    keys = Keys(folder)
    keys.make(new_host_key)
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    username = pwd.getpwuid(os.geteuid()).pw_name
    program = installed("/usr/sbin/sshd", "openssh-server")
    configuration = folder / "sshd_config"
    penalties = "PerSourcePenalties no" if _version(program) >= PENALTIES_SINCE else ""
    pam = "yes" if _locked(username) else "no"

    def start(port: int) -> AbstractContextManager[int]:
        text = CONFIGURATION.format(port=port, host=LOOPBACK, keys=keys, root=root, pam=pam, penalties=penalties)
        configuration.write_text(text)
        listens = f"Server listening on {LOOPBACK} port {port}."
        command = external(program, "-D", "-e", "-f", str(configuration))
        return running(command, folder / "sshd.log", lambda log: port if listens in log else None)

    with on_port(port, start) as chosen:
        yield keys.server(chosen, username, None, root)


class _Shadow(ctypes.Structure):
    """The beginning of shadow.h's `struct spwd`."""

    _fields_ = (("name", ctypes.c_char_p), ("password", ctypes.c_char_p))


def _locked(username: str) -> bool:
    """Whether the server takes the user's account to be locked. Without PAM, no key opens such a one."""
    look_up = ctypes.CDLL(None).getspnam
    look_up.restype = ctypes.POINTER(_Shadow)
    found = look_up(username.encode())
    return bool(found) and (found.contents.password or b"").startswith(b"!")


def _version(program: str) -> tuple[int, int]:
    """The server's version. Those that have no `-V` say it as they refuse that."""
    said = subprocess.run([program, "-V"], capture_output=True, text=True, timeout=START_LIMIT, check=False).stderr
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)
