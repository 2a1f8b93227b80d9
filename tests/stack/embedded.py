"""An embedded AWS of a test's own: MiniStack on a free loopback port, over TLS, with IAM enforced."""

import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).resolve().parents[2]
REGION = "eu-central-1"
# It ends with this process, even when that is killed. The checkout leaves the path again, so that no function can
# import from it what its zip lacks.
MINISTACK = (
    "import sys; sys.path.insert(0, sys.argv[1]); from infra import lifeline; del sys.path[0]; lifeline.main(['ministack.app:main'])"
)
NO_FILE = str(Path(__file__).with_name("no-such-file"))
STARTS_WITHIN = 60
STOPS_WITHIN = 20


def clean_environment(**additions: str) -> dict[str, str]:
    """This process's environment without what would point somewhere else."""
    foreign = ("AWS_", "STOWAGE_", "LAMBDA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    # Nothing of a developer's own account may be found.
    nowhere = {"AWS_SHARED_CREDENTIALS_FILE": NO_FILE, "AWS_CONFIG_FILE": NO_FILE, "AWS_EC2_METADATA_DISABLED": "true"}
    return kept | nowhere | additions


class EmbeddedAws:
    """A running MiniStack; `environment` lets any SDK find it with the account's root credentials."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.certificate, self._key = _certificate(folder)
        self.port = _free_port()
        self.endpoint = f"https://127.0.0.1:{self.port}"
        self.environment = clean_environment(
            AWS_ENDPOINT_URL=self.endpoint,
            AWS_CA_BUNDLE=str(self.certificate),
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            AWS_DEFAULT_REGION=REGION,
        )

    def start(self) -> None:
        settings = {
            "GATEWAY_PORT": str(self.port),
            "BIND_HOST": "127.0.0.1",
            "PERSIST_STATE": "0",
            "AUTH": "true",
            "USE_SSL": "1",
            "MINISTACK_SSL_CERT": str(self.certificate),
            "MINISTACK_SSL_KEY": str(self._key),
            "MINISTACK_REGION": REGION,
            # Listeners of services that are not used here, on ports of their own.
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
        }
        # The functions inherit this environment, and take their endpoint and credentials from MiniStack.
        environment = clean_environment(AWS_CA_BUNDLE=str(self.certificate), **settings)
        with (self._folder / "ministack.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", MINISTACK, str(ROOT)],
                cwd=self._folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        context = ssl.create_default_context(cafile=str(self.certificate))
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"{self.endpoint}/_ministack/health", context=context, timeout=5).close()
                return
            except OSError:
                time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"MiniStack did not start:\n{self.log()[-2000:]}")

    def log(self) -> str:
        return (self._folder / "ministack.log").read_text(errors="replace")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, good for this day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "embedded AWS")])
    now = datetime.now(UTC)
    addresses = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(addresses, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return certificate_file, key_file
