"""A storage's place is chosen by a tenant, and none leads to where only this installation can go: not one connection is made.

Everything on this machine listens, and what is connected to is written down. Nothing goes to the internet either: names have the
addresses that a test gives them, and a public address refuses.
"""

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from chalicelib import outbound
from tests.client import Answer, Client
from tests.conftest import Tenant
from tests.servers.hostile import listener

CONFIGS = "/api/v1/backups/storage-configs"
TRY = f"{CONFIGS}/test-connection"
PUBLIC = "8.8.8.8"
KEYS = {"access_key": "AKIAIOSFODNN7EXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
VAULT = {"name": "n", "bucket_name": "my-bucket", "access_key_id": KEYS["access_key"], "secret_access_key": KEYS["secret_key"]}
ACCOUNT = "0123456789abcdef0123456789abcdef"


# ---- addresses in all their notations --------------------------------------------------------------------------
INNER_4 = ("127.0.0.1", "169.254.169.254", "10.0.0.1", "192.168.1.1", "172.16.0.1", "0.0.0.0", "100.100.100.200", "168.63.129.16")


def notations_4(address: str) -> list[str]:
    """How inet_aton, and with it most resolvers, can be told an IPv4 address."""
    a, b, c, d = (int(part) for part in address.split("."))
    whole = int(ipaddress.IPv4Address(address))
    return [
        address, f"{whole}", f"0x{whole:08x}", f"0X{whole:08X}", f"0{whole:o}", f"{a}.{(b << 16) + (c << 8) + d}",
        f"{a}.{b}.{(c << 8) + d}",
        f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}", f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"0x{a:x}.{b}.0{c:o}.{d}",
        f"0x{a:x}.{(b << 16) + (c << 8) + d}",
        f"00000{a:o}.{b}.{c}.{d}",
    ]  # fmt: skip


def wrapped_6(address: str) -> list[str]:
    """The IPv6 addresses that some gateway or stack takes for an IPv4 address."""
    whole = int(ipaddress.IPv4Address(address))
    high, low = whole >> 16, whole & 0xFFFF
    return [
        f"::ffff:{address}", f"::ffff:{high:x}:{low:x}", f"0:0:0:0:0:ffff:{high:x}:{low:x}", f"::{address}", f"64:ff9b::{address}",
        f"64:ff9b:1::{high:x}:{low:x}", f"2002:{high:x}:{low:x}::", f"2002:{high:x}:{low:x}::1",
        f"2001:0:{high:x}:{low:x}:0:0:{0xFFFF - high:x}:{0xFFFF - low:x}", f"::FFFF:{high:X}:{low:X}",
    ]  # fmt: skip


INNER_6 = ["::1", "0:0:0:0:0:0:0:1", "::", "fe80::1", "febf::1", "fd00:ec2::254", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1",
"::0001",
           "0000:0000:0000:0000:0000:0000:0000:0001"]  # fmt: skip
LITERALS_4 = sorted({each for address in INNER_4 for each in notations_4(address)})
LITERALS_6 = sorted({*INNER_6, *(each for address in INNER_4[:4] for each in wrapped_6(address))})
# What resolves, and to what. Whatever is not here has no address.
NAMES: dict[str, list[str]] = {
    "localhost": ["127.0.0.1"], "localhost.": ["127.0.0.1"], "LOCALHOST": ["127.0.0.1"], "ip6-localhost": ["::1"],
    "a.localhost": ["127.0.0.1"],
    "127.0.0.1.": ["127.0.0.1"], "127.0.0.1.nip.example": ["127.0.0.1"], "metadata.google.internal": ["169.254.169.254"],
    "instance-data": ["169.254.169.254"], "inner.example": ["10.0.0.1"], "mapped.example": ["::ffff:127.0.0.1"],
    "nat64.example": ["64:ff9b::7f00:1"],
    "sixtofour.example": ["2002:7f00:1::"], "both.example": [PUBLIC, "127.0.0.1"], "both6.example": ["2606:4700::1111", "::1"],
    "scoped.example": ["fe80::1%lo"], "zero.example": ["0.0.0.0"], "multicast.example": ["224.0.0.1"], "cgnat.example": ["100.64.0.1"],
    "last.example": [PUBLIC, PUBLIC, PUBLIC, "169.254.169.254"], "2130706433.": ["127.0.0.1"], "0x7f.1.": ["127.0.0.1"],
    "xn--localhost.example": ["127.0.0.1"], "_a.example": ["127.0.0.1"],
}  # fmt: skip
UNICODE_HOSTS = ["127。0。0。1", "127．0．0．1", "127｡0｡0｡1", "１２７.0.0.1", "①②⑦.⓪.⓪.①", "ｌｏｃａｌｈｏｓｔ",
                 "localhoſt", "loca\u00adlhost",
"127.0.0.1\u200b",
                 "[::\uff11]", "ⓛocalhost", "127.0.0.1\u3002"]  # fmt: skip


def tricks(port: int) -> list[str]:
    """URLs that two parsers read differently, or that are none of HTTP."""
    inner = f"127.0.0.1:{port}"
    return [
        f"http://a.example@{inner}", f"http://a.example:80@{inner}", f"http://{inner}@a.example", f"http://:@{inner}", f"http://@{inner}",
        f"http://a.example%40{inner}", f"http://{inner}#@a.example", f"http://{inner}#", f"http://{inner}?@a.example", f"http://{inner}?",
        f"http://{inner}\\@a.example", f"http://a.example\\@{inner}", f"http:\\\\{inner}", f"http:/\\{inner}", f"http:{inner}",
        f"http:/{inner}",
        f"http:///{inner}", f"//{inner}", inner, f"{inner}/", f" http://{inner}", f"http://{inner} ", f"http://{inner}\n",
        f"http://{inner}\r\nHost: x",
        f"\thttp://{inner}", f"ht\ntp://{inner}", f"http://127.0.0.1\t:{port}", f"http://{inner}/a/../b",
        f"http://{inner}/latest/meta-data/",
        f"http://127.0.0.1:{port}:80", "http://127.0.0.1:0", "http://127.0.0.1:00", f"http://127.0.0.1:0{port}",
        f"http://127.0.0.1:+{port}",
        f"http://127.0.0.1:{port + 65536}", "http://127.0.0.1:", "http://127.0.0.1", "http://[::1", "http://::1", f"http://::1:{port}",
        f"http://[::1]]:{port}", f"http://[127.0.0.1]:{port}", f"http://[::1%25lo]:{port}", f"http://[fe80::1%25lo]:{port}",
        f"http://[::1%lo]:{port}",
        f"file://{inner}/etc/passwd", "file:///etc/passwd", f"gopher://{inner}/_x", f"ftp://{inner}", f"dict://{inner}/x",
        f"ldap://{inner}",
        f"jar:http://{inner}!/", f"data://{inner}", f"unix://{inner}", "javascript:alert(1)", f"s3://{inner}", f"sftp://{inner}",
        f"ws://{inner}",
        f"httpx://{inner}", f"HTTP://{inner}", f"hTTpS://{inner}", f"http://%31%32%37.0.0.1:{port}", f"http://127%2e0.0.1:{port}",
        f"http://127.0.0.1%00.a.example:{port}", f"http://127.0.0.1;a.example:{port}", f"http://127.0.0.1,a.example:{port}",
        f"http://{{127.0.0.1}}:{port}", f"http://127.0.0.1&a.example:{port}", f"http://-127.0.0.1:{port}", f"http://.127.0.0.1:{port}",
        f"http://127.0.0.1..:{port}", f"http://127..1:{port}", "http://", "https://", "http://?", "", "x",
        f"http://{'a' * 64}.example:{port}",
        f"http://{'a.' * 130}example:{port}", "http://127.0.0.1:" + "9" * 100, f"http://[v1.127.0.0.1]:{port}",
    ]  # fmt: skip


# ---- what listens ----------------------------------------------------------------------------------------------
@dataclass
class Machine:
    """A port on which every address of the machine listens, the connections that came, and where any went to."""

    port: int
    accepted: list[Any] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def was_left_alone(self) -> bool:
        assert self.accepted == []
        assert [address for address in self.tried if not outbound.is_public(address)] == []
        return True


def _listening() -> tuple[socket.socket, socket.socket]:
    for _ in range(20):
        four = socket.create_server(("0.0.0.0", 0))
        port = four.getsockname()[1]
        try:
            return four, socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=False)
        except OSError:
            four.close()
    raise RuntimeError("no port is free for both")


@pytest.fixture
def machine(every_kind: None, monkeypatch: pytest.MonkeyPatch, settings_again: Callable[[], None]) -> Iterator[Machine]:
    """Private addresses are not permitted; nobody is to come here."""
    monkeypatch.setenv("STOWAGE_ALLOW_PRIVATE_ENDPOINTS", "false")
    settings_again()
    servers = _listening()
    made = Machine(servers[0].getsockname()[1])

    threads = [threading.Thread(target=_accept, args=(each, made.accepted), daemon=True) for each in servers]
    for thread in threads:
        thread.start()
    connected, getaddrinfo = outbound._connected, socket.getaddrinfo

    def connect(new: socket.socket, address: Any, *rest: Any) -> socket.socket:
        made.tried.append(address[0])
        if outbound.is_public(address[0]):  # as it may be, but not by tests
            new.close()
            raise ConnectionRefusedError
        return connected(new, address, *rest)

    def resolve(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        if "ask" not in threading.current_thread().name:  # not `outbound.resolved`: the tests' own
            return getaddrinfo(host, port, *rest, **named)
        made.asked.append(host)
        return getaddrinfo(host, port, *rest, **named) if _is_spelled_out(host) and host not in NAMES else _by_name(host, port)

    monkeypatch.setattr(outbound, "_connected", connect)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    yield made
    for server in servers:
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
    for thread in threads:
        thread.join(5)
    assert made.was_left_alone()


def _accept(listening: socket.socket, accepted: list[Any]) -> None:
    with suppress(OSError):
        while True:
            connection, peer = listening.accept()
            accepted.append(peer)
            connection.close()


def _by_name(host: str, port: int) -> list[Any]:
    addresses = NAMES.get(host) or NAMES.get(host.lower())
    if addresses is None:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")
    return [(socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]


def _is_spelled_out(host: str) -> bool:
    """Whether a resolver makes an address of it without asking anybody."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
        return True
    except ValueError:
        try:
            socket.inet_aton(host)
            return True
        except OSError:
            return False


@pytest.fixture
def plain(new_tenant: Any, machine: Machine) -> Tenant:
    made: Tenant = new_tenant()
    return made


# ---- what is asked of the API ----------------------------------------------------------------------------------
def s3(provider: str, endpoint: str) -> dict[str, Any]:
    return {"name": "n", "provider": provider, "bucket": "my-bucket", "endpoint_url": endpoint, **KEYS}


def azure(endpoint: str) -> dict[str, Any]:
    return {
        "name": "n",
        "provider": "azure_blob",
        "bucket": "my-bucket",
        "endpoint_url": endpoint,
        "access_key": "account01",
        "secret_key": "a2V5",
    }


def server(provider: str, host: str, port: int) -> dict[str, Any]:
    tls = {"tls": "none"} if provider == "ftp" else {}
    return {"name": "n", "provider": provider, "bucket": ".", "host": host, "port": port, **KEYS, **tls}


def is_refused(answer: Answer, what: Any) -> bool:
    """A 4xx, or a test that failed and says nothing of what is there."""
    if answer.status == 200 and "success" in answer.json():
        told = answer.json()
        assert told["success"] is False, what
        assert (told["bucket_exists"], told["can_write"], told["can_read"]) in ((None, None, None), (False, None, None)), what
        return True
    assert 400 <= answer.status < 500, (what, answer.status, answer.body)
    return True


def saved_is_refused(client: Client, answer: Answer, what: Any) -> None:
    """What is only a name is saved, as nothing is asked then; it is refused when it is first used."""
    if answer.status != 201:
        is_refused(answer, what)
        return
    config = answer.json()["id"]
    is_refused(client("POST", f"{CONFIGS}/{config}/test"), what)
    bucket = client("POST", "/storage/buckets", {"name": "b", "storage_id": config})
    assert (bucket.status, bucket.code) == (422, "ProbeFailed"), what
    assert client("DELETE", f"{CONFIGS}/{config}").status == 200


def urls_of(hosts: list[str], port: int) -> list[str]:
    return [f"{scheme}://{host}:{port}" for host in hosts for scheme in ("http", "https")]


def refuse_all(client: Client, endpoints: list[str]) -> None:
    """By every way that an endpoint takes in."""
    base = client("POST", CONFIGS, s3("s3_compatible", "https://s3.example.com")).json()["id"]
    for endpoint in endpoints:
        for provider in ("s3_compatible", "minio", "backblaze_b2", "cloudflare_r2"):
            is_refused(client("POST", TRY, s3(provider, endpoint)), (provider, endpoint))
        is_refused(client("POST", TRY, azure(endpoint)), endpoint) if endpoint else None
        for provider in ("s3_compatible", "minio"):
            saved_is_refused(client, client("POST", CONFIGS, s3(provider, endpoint)), (provider, endpoint))
        changed = client("PATCH", f"{CONFIGS}/{base}", {"endpoint_url": endpoint})
        if changed.status == 200:
            is_refused(client("POST", f"{CONFIGS}/{base}/test"), endpoint)
        else:
            is_refused(changed, endpoint)


def refuse_on_the_vault(client: Client, endpoints: list[str]) -> None:
    for endpoint in endpoints:
        answer = client("POST", "/storages/create", VAULT | {"provider": "r2", "region": "auto", "endpoint_url": endpoint})
        assert (answer.status, answer.code) == (400, "InvalidRequest"), endpoint
        if endpoint:
            answer = client("POST", "/storages/create", VAULT | {"provider": "s3", "region": "us-east-1", "endpoint_url": endpoint})
            assert (answer.status, answer.code) == (400, "InvalidRequest"), endpoint
    assert client("GET", "/storages/list").json() == []


def hostile_urls(port: int) -> list[str]:
    literals = [*LITERALS_4, *(f"[{each}]" for each in LITERALS_6)]
    return [*urls_of(literals, port), *urls_of(list(NAMES), port), *urls_of(UNICODE_HOSTS, port), *tricks(port)]


def test_there_are_hundreds_of_them() -> None:
    assert len(set(hostile_urls(9000))) >= 400
    assert len(LITERALS_4) + len(LITERALS_6) + len(NAMES) >= 130


@pytest.mark.parametrize("address", INNER_4)
def test_no_notation_of_an_inner_ipv4_address_is_asked(plain: Tenant, machine: Machine, address: str) -> None:
    refuse_all(plain.service, [f"http://{each}:{machine.port}" for each in notations_4(address)])
    assert machine.tried == []


@pytest.mark.parametrize("part", range(3))
def test_no_inner_ipv6_address_is_asked_nor_one_that_wraps_an_ipv4_address(plain: Tenant, machine: Machine, part: int) -> None:
    refuse_all(plain.service, [f"https://[{each}]:{machine.port}" for each in LITERALS_6[part::3]])
    assert machine.tried == []


@pytest.mark.parametrize("part", range(3))
def test_no_name_of_an_inner_address_is_asked(plain: Tenant, machine: Machine, part: int) -> None:
    refuse_all(plain.service, [f"http://{each}:{machine.port}" for each in list(NAMES)[part::3]])
    assert machine.tried == []
    assert machine.asked


@pytest.mark.parametrize("part", range(4))
def test_no_trick_with_a_url_leads_inside(plain: Tenant, machine: Machine, part: int) -> None:
    hosts = [f"http://{each}:{machine.port}" for each in UNICODE_HOSTS]
    refuse_all(plain.service, [*tricks(machine.port), *hosts][part::4])


# What only one of the libraries that read a URL takes for one, or for a host.
NO_HOST_FOR_BOTOCORE = ("http://a.example%40", "http://127.0.0.1;", "http://127.0.0.1,", "http://{127", "http://127.0.0.1&",
"http://-127", "http://.127",
                        "http://127.0.0.1..", "http://127..1", "http://aaaaaaaaaa", "http://a.a.a.a.", "http://_a.")  # fmt: skip
NO_URL_FOR_URLLIB = ("http://[::1", "http://[127.0.0.1]", "http://[::\uff11]")


@pytest.mark.parametrize("start", NO_URL_FOR_URLLIB)
def test_what_is_no_url_breaks_nothing(plain: Tenant, machine: Machine, start: str) -> None:
    all_of_them = [*tricks(machine.port), *urls_of(UNICODE_HOSTS, machine.port)]
    chosen = [each for each in all_of_them if each.startswith(start) and "]]" not in each and "%" not in each]
    assert [plain.service("POST", TRY, s3("backblaze_b2", each)).status for each in chosen] == [422] * len(chosen)


@pytest.mark.parametrize("start", NO_HOST_FOR_BOTOCORE)
def test_what_is_no_host_breaks_nothing(plain: Tenant, machine: Machine, start: str) -> None:
    chosen = [each for each in [*tricks(machine.port), *urls_of(list(NAMES), machine.port)] if each.startswith(start)]
    assert chosen
    for endpoint in chosen:
        is_refused(plain.service("POST", TRY, s3("s3_compatible", endpoint)), endpoint)


def test_the_vault_takes_none_of_them(plain: Tenant, machine: Machine) -> None:
    refuse_on_the_vault(plain.service, hostile_urls(machine.port))
    assert (machine.tried, machine.asked) == ([], [])


@pytest.mark.parametrize("provider", ["sftp", "ftp"])
def test_no_server_is_asked_at_an_inner_address(plain: Tenant, machine: Machine, provider: str) -> None:
    client, port = plain.service, machine.port
    base = client("POST", CONFIGS, server(provider, "sftp.example.com", port)).json()["id"]
    hosts = [*LITERALS_4[::5], *LITERALS_6[::2], *(f"[{each}]" for each in INNER_6), *NAMES, *UNICODE_HOSTS, "127.0.0.1:22",
    "a@127.0.0.1", "127.0.0.1/",
             "sftp://127.0.0.1", "127.0.0.1 ", " 127.0.0.1", "127.0.0.1\n", "127.0.0.1\0", "127.0.0.1#", "127.0.0.1%00", "::1%lo",
             "fe80::1%lo", "",
             "127.0.0.1\\", "%31%32%37.0.0.1", "..", ":", "::::", "-oProxyCommand=x", "a:22"]  # fmt: skip
    for host in hosts:
        is_refused(client("POST", TRY, server(provider, host, port)), host)
        saved_is_refused(client, client("POST", CONFIGS, server(provider, host, port)), host)
        changed = client("PATCH", f"{CONFIGS}/{base}", {"host": host})
        is_refused(client("POST", f"{CONFIGS}/{base}/test") if changed.status == 200 else changed, host)
    assert machine.tried == []


def test_a_port_is_one_of_a_server(plain: Tenant) -> None:
    for port in (0, -1, 65536, "22", 2**70, 22.0):
        for provider in ("sftp", "ftp"):
            answer = plain.service("POST", TRY, server(provider, "sftp.example.com", port))  # type: ignore[arg-type]
            assert answer.status == 422, port


@pytest.mark.parametrize("fields", [s3("s3_compatible", "https://turning.example"), server("sftp", "turning.example", 22), server("ftp",
"turning.example", 21)],
                         ids=["s3", "sftp", "ftp"])  # fmt: skip
def test_a_name_that_turns_inside_between_two_looks_leads_nowhere(
    plain: Tenant, machine: Machine, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    """The first answer is public, every later one is not: the probe tries again, and looks again."""
    answers = [PUBLIC]

    class Turning(dict[str, list[str]]):
        def get(self, host: str, default: Any = None) -> Any:
            return [answers.pop() if answers else "127.0.0.1"] if host == "turning.example" else super().get(host, default)

    monkeypatch.setitem(globals(), "NAMES", Turning(NAMES))
    for _ in range(3):
        is_refused(plain.service("POST", TRY, fields), fields)
    assert set(machine.tried) <= {PUBLIC}
    assert machine.tried


def test_the_resolved_address_is_the_one_that_is_connected_to(plain: Tenant, machine: Machine) -> None:
    is_refused(plain.service("POST", TRY, s3("s3_compatible", f"https://{PUBLIC}:{machine.port}")), PUBLIC)
    assert set(machine.tried) == {PUBLIC}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("provider", ["s3_compatible", "minio"])
def test_a_redirect_leads_nowhere(
    plain: Tenant, machine: Machine, monkeypatch: pytest.MonkeyPatch, settings_again: Callable[[], None], provider: str, status: int
) -> None:
    """Seen where private addresses are permitted: it is the redirect that is not followed."""
    monkeypatch.setenv("STOWAGE_ALLOW_PRIVATE_ENDPOINTS", "true")
    monkeypatch.setattr(Machine, "was_left_alone", lambda self: self.accepted == [])
    settings_again()
    with listener("redirect", to=f"http://127.0.0.1:{machine.port}/latest/meta-data/", status=status) as hostile:
        answer = plain.service("POST", TRY, s3(provider, hostile.url))
        assert answer.json()["success"] is False
        assert answer.json()["code"] == ("EndpointRefused" if status != 303 else "CannotConnect")
        assert hostile.connections
    assert machine.accepted == []


def test_an_override_of_the_platform_is_no_way_in_for_a_tenant(plain: Tenant, machine: Machine) -> None:
    """R2's account and B2's region become a part of a host: nothing but their own characters is taken."""
    for account in ("127.0.0.1:80/", f"{ACCOUNT}@127.0.0.1", f"{ACCOUNT}.", "a" * 31 + "/", f"{ACCOUNT}#", "127.0.0.1"):
        fields = {"name": "n", "provider": "cloudflare_r2", "bucket": "my-bucket", "account_id": account, **KEYS}
        assert plain.service("POST", TRY, fields).status == 422
    for region in ("127.0.0.1/", "a.b", "x@127.0.0.1", "x:80", "x#", "localhost/"):
        for provider in ("wasabi", "digitalocean_spaces", "aws_s3"):
            fields = {"name": "n", "provider": provider, "bucket": "my-bucket", "region": region, **KEYS}
            assert plain.service("POST", TRY, fields).status == 422
    for account in ("127.0.0.1:80/", "a.b", "x@y", "x/y", "x#y"):
        fields = {"name": "n", "provider": "azure_blob", "bucket": "my-bucket", "access_key": account, "secret_key": "a2V5"}
        assert plain.service("POST", TRY, fields).status == 422
    assert (machine.tried, machine.asked) == ([], [])
