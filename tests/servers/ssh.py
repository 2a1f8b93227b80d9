"""What the SSH servers have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

PrivateKey = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class SSHServer:
    """Where a server is and what it takes. SFTP starts in `root`, so give it paths without a leading slash.

    Keys are text: the private ones PEM (the Ed25519 one of OpenSSH's kind, the RSA one of PKCS #1), the host's one
    `ssh-ed25519 AAAA…`. The password is None where the server takes none.
    """

    host: str
    port: int
    username: str
    password: str | None
    private_key: str
    rsa_private_key: str
    host_key: str
    root: Path


@dataclass(frozen=True)
class Keys:
    """Files of keys in a folder."""

    folder: Path

    @property
    def host_key(self) -> Path:
        return self.folder / "host_key"

    @property
    def authorized(self) -> Path:
        return self.folder / "authorized_keys"

    @property
    def private_key(self) -> Path:
        return self.folder / "client_ed25519"

    @property
    def rsa_private_key(self) -> Path:
        return self.folder / "client_rsa"

    def make(self, new_host_key: bool) -> None:
        """Make those that are missing, so that a server has the same ones when it is started again."""
        if new_host_key:
            self.host_key.unlink(missing_ok=True)
        _key(self.host_key, ed25519.Ed25519PrivateKey.generate)
        clients = [
            _key(self.private_key, ed25519.Ed25519PrivateKey.generate),
            _key(self.rsa_private_key, lambda: rsa.generate_private_key(65537, 2048)),
        ]
        self.authorized.write_text("".join(f"{key}\n" for key in clients))

    def server(self, port: int, username: str, password: str | None, root: Path) -> SSHServer:
        """A server that has these keys."""
        return SSHServer(
            "127.0.0.1",
            port,
            username,
            password,
            self.private_key.read_text(),
            self.rsa_private_key.read_text(),
            self.host_key.with_suffix(".pub").read_text(),
            root,
        )


def _key(path: Path, generate: Callable[[], PrivateKey]) -> str:
    """The public key of the private one at this path, which is made if it is missing."""
    public = path.with_suffix(".pub")
    if not path.exists():
        key = generate()
        form = serialization.PrivateFormat.OpenSSH if path.name != "client_rsa" else serialization.PrivateFormat.TraditionalOpenSSL
        private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        public.write_bytes(key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH))
        path.touch(0o600)
        path.write_bytes(private)
    return public.read_text()
