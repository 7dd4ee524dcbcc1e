"""Proxies, hosts without a proxy and certificates: every message takes the way that the environment names."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from halo_notebook import AsyncHaloClient, HaloClient, errors, evaluate
from halo_notebook.client.transports.environment import proxy_for
from halo_notebook.demo import DEMO_KEY, DemoAgent

from .servers import HI, asked, not_connected, over_both, received, server, tunnels

ELSEWHERE = "https://halo.invalid/api/sdk"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *(each.lower() for each in VARIABLES), *CERTIFICATES, "NETRC"):
        monkeypatch.delenv(name, raising=False)


@dataclass
class Elsewhere:
    """An agent at `ELSEWHERE`, which only a proxy reaches; what it and the proxy were asked."""

    authority: trustme.CA
    url: str = ""
    proxy: str = ""
    requests: list[bytes] = field(default_factory=list)
    tunnels: list[bytes] = field(default_factory=list)


@pytest.fixture(params=["http"])
def elsewhere(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Elsewhere]:
    """It and the proxy, of that scheme, have certificates of an authority of SSL_CERT_FILE."""
    authority = trustme.CA()
    there = Elsewhere(authority)

    def answer(connection: socket.socket) -> None:
        there.requests.append(received(connection))
        connection.sendall(HI)

    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    proxys = authority.issue_cert("127.0.0.1") if request.param == "https" else None
    with (
        server(answer, authority.issue_cert("halo.invalid")) as there.url,
        server(tunnels(there.url, there.tunnels), proxys) as proxy,
    ):
        there.proxy = proxy.removesuffix("/api/sdk")
        yield there


def evaluated(client: HaloClient, path: Path | None = None) -> Any:
    """The one row of an evaluation of that client."""
    return evaluate(["Hi"], configs={"a": client}, path=path, progress=False).df.iloc[0]


def reached_by_both(there: Elsewhere) -> None:
    """`ask` and `evaluate` get a reply, each by one tunnel."""
    client = HaloClient(DEMO_KEY, base_url=ELSEWHERE)
    assert client.ask("Hi").text == evaluated(client).text == "hi"
    assert len(there.requests) == len(there.tunnels) == 2
    assert all(head.startswith(b"CONNECT halo.invalid:443 ") for head in there.tunnels)
    bearer = f"authorization: bearer {DEMO_KEY}".encode()
    for head in there.requests:
        assert head.lower().count(b"authorization:") == 1 and bearer in head.lower()
    assert not any(b"bearer" in head.lower() or DEMO_KEY.encode() in head for head in there.tunnels)


@pytest.mark.parametrize(
    ("elsewhere", "name", "form"),
    [
        ("http", "ALL_PROXY", "{}"),
        ("http", "all_proxy", "{}/"),
        ("http", "HTTPS_PROXY", " {} "),
        ("http", "https_proxy", "no scheme"),
        ("https", "HTTPS_PROXY", "{}"),
        ("https", "ALL_PROXY", "{}"),
    ],
    indirect=["elsewhere"],
)
def test_both_ways_go_by_the_proxy(
    name: str, form: str, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tunnel each, through an http or an https proxy, under each of the names."""
    address = elsewhere.proxy.removeprefix("http://") if form == "no scheme" else form.format(elsewhere.proxy)
    monkeypatch.setenv(name, address)
    reached_by_both(elsewhere)


@pytest.mark.parametrize(
    "content",
    ["default login guest password p4ss", "machine halo.invalid login guest password p4ss", "machine oh no"],
    ids=["default", "machine", "junk"],
)
def test_netrc_is_not_read(
    content: str, elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the key goes out: a user name and a password of a .netrc file are for other programs."""
    (tmp_path / ".netrc").write_text(f"{content}\nmachine 127.0.0.1 login proxy password p4ss\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ALL_PROXY", elsewhere.proxy)
    reached_by_both(elsewhere)
    assert not any(b"Basic" in head for head in elsewhere.requests + elsewhere.tunnels)


@pytest.mark.parametrize(
    ("user", "sent"),
    [
        ("user:p4ssword", b"dXNlcjpwNHNzd29yZA=="),
        ("user:p%40ss%3Aword", b"dXNlcjpwQHNzOndvcmQ="),
        ("user", b"dXNlcjo="),
        ("user:p\u00e4ss", b"dXNlcjpww6Rzcw=="),
    ],
)
@over_both
def test_a_proxy_gets_its_password_and_no_error_shows_it(
    via: str, user: str, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that refuses the connection has seen the password; the message was not sent."""
    asked_for: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        asked_for.append(received(connection))
        connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")

    with server(serve) as url:
        monkeypatch.setenv("ALL_PROXY", url.replace("//", f"//{user}@").removesuffix("/api/sdk"))
        line = not_connected(ELSEWHERE, via)
    assert "by the proxy: 502 Bad Gateway" in line and "ss" not in line.split("502")[0].split("(")[1]
    assert asked_for[0].startswith(b"CONNECT halo.invalid:443 ") and b"Bearer" not in asked_for[0]
    assert b"proxy-authorization: basic " + sent in asked_for[0].replace(b"Proxy-A", b"proxy-a").replace(
        b"Basic", b"basic"
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"NOT HTTP AT ALL\r\n\r\n",
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nthis is no TLS",
        b"HTTP/1.1 302 Found\r\nLocation: https://login.invalid/\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["closes", "babbles", "407", "no TLS", "redirects"],
)
@over_both
def test_what_fails_at_the_proxy_was_not_sent(
    via: str, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a request for a tunnel had left."""

    def serve(connection: socket.socket) -> None:
        received(connection)
        connection.sendall(answer)

    with server(serve) as url:
        monkeypatch.setenv("ALL_PROXY", url.replace("//", "//user:p4ssword@"))
        assert "p4ssword" not in not_connected(ELSEWHERE, via)


@over_both
def test_a_silent_proxy_is_waited_for_as_for_a_connection(via: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as for a reply, which may take minutes; nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{silent.getsockname()[1]}")
        line = not_connected(ELSEWHERE, via, connect_timeout_s=0.5, silence_timeout_s=60)
    assert "no answer within 0.5 s" in line


ON_NO_LIST = [
    "",
    " , ",
    "other.invalid",
    "alo.invalid",
    "halo.invalid:444",
    "invalid.halo",
    "halo",
    "[::1",
    "::1]:x",
]
ON_NO_LIST += [
    "::1/128",
    "10.0.0.0/99",
    "127.0.0.0/8",
    "halo.invalid:port",
    "http://",
    "%",
    "localhost,127.0.0.0/8",
]
ON_A_LIST = [
    "*",
    "halo.invalid",
    "HALO.Invalid",
    ".invalid",
    "invalid",
    "*.invalid",
    "halo.invalid:443",
    "halo.invalid.",
]
ON_A_LIST += [
    "localhost,127.0.0.0/8,::1/128,halo.invalid",
    "::/0 [::1], .invalid",
    "junk:x:y,*",
    " halo.invalid ",
]


@pytest.mark.parametrize(
    ("base_url", "no_proxy", "direct"),
    [
        *((ELSEWHERE, each, False) for each in ON_NO_LIST),
        *((ELSEWHERE, each, True) for each in ON_A_LIST),
        *(
            ("https://10.1.2.3", each, False)
            for each in ["10.1.2.4", "10.1.3.0/24", "2.3", ".3", "::/0", "10.1.2.3:80"]
        ),
        *(("https://10.1.2.3", each, True) for each in ["10.1.2.3", "10.0.0.0/8", "10.9.9.9/8", "0.0.0.0/0"]),
        *(
            ("https://[fd00::1]:8443", each, True)
            for each in ["fd00::/8", "[fd00::1]", "fd00:0::1", "[fd00::1]:8443"]
        ),
        *(
            ("https://[fd00::1]:8443", each, False)
            for each in ["fe00::/8", "[fd00::1]:443", "10.0.0.0/8", "::1"]
        ),
    ],
)
def test_hosts_without_a_proxy(
    base_url: str, no_proxy: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_PROXY names a host, a domain, an address or a network; what cannot be read names none."""
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert (proxy_for(base_url) is None) is direct


@over_both
def test_a_proxy_does_not_see_what_goes_to_this_machine(
    via: str, agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor what goes to a host of NO_PROXY."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert asked(agent.url, via)[1] is None
    proxied = not_connected(ELSEWHERE, via)
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.0/8,::1/128,halo.invalid:443")
    assert not_connected(ELSEWHERE, via) != proxied


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("ALL_PROXY", "foo://127.0.0.1", "foo://"),
        ("HTTPS_PROXY", "socks4://127.0.0.1:9", "socks4://"),
        ("ALL_PROXY", "http://[::1", "the proxy's address is not valid"),
        ("ALL_PROXY", "http://user:p4ssword@127.0.0.1:port", "the proxy's address is not valid"),
        ("ALL_PROXY", "http://user:p4ssword@127.0.0.1:99999", "the proxy's address is not valid"),
        ("https_proxy", "http://user:p4ssword@", "the proxy's address is not valid"),
        ("https_proxy", "http://a b:9", "the proxy's address is not valid"),
        ("ALL_PROXY", '"http://user:p4ssword@127.0.0.1:9"', "the proxy's address is not valid"),
        *((name, "/nonexistent/certificates", "No such file") for name in CERTIFICATES if "DIR" not in name),
        *(
            (name, "empty", f"{name} names a file that is not a list of certificates")
            for name in CERTIFICATES[::2]
        ),
        *(
            (name, "junk", f"{name} names a file that is not a list of certificates")
            for name in CERTIFICATES[::2]
        ),
        ("SSL_CERT_FILE", "folder", "Is a directory"),
        ("SSL_CERT_DIR", "/nonexistent/certificates", "SSL_CERT_DIR does not name a folder"),
        ("SSL_CERT_DIR", "junk", "SSL_CERT_DIR does not name a folder"),
        ("SSL_CERT_DIR", "x" * 300, "SSL_CERT_DIR does not name a folder"),
        ("SSL_CERT_FILE", "x" * 300, "File name too long"),
        ("REQUESTS_CA_BUNDLE", "x" * 300, "File name too long"),
    ],
)
def test_a_network_that_cannot_be_set_up_is_one_line(
    name: str, value: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same from `ask` and `evaluate`. No message goes around a proxy; the line shows no password."""
    (tmp_path / "empty").touch()
    (tmp_path / "junk").write_bytes(b"\0junk" * 100)
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv(name, str(tmp_path / value) if value in ("empty", "junk", "folder") else value)
    for url in (ELSEWHERE, "https://127.0.0.1:9/api/sdk") if name in CERTIFICATES else (ELSEWHERE,):
        client = HaloClient(DEMO_KEY, base_url=url)
        with pytest.raises(errors.ConfigError) as in_ask:
            client.ask("Hi")
        with pytest.raises(errors.ConfigError) as in_evaluate:
            evaluated(client)
        line = str(in_ask.value)
        assert line == str(in_evaluate.value)
        assert why in line and line.startswith("The network could not be set up (") and "\n" not in line
        assert "Nothing was sent" in line and "p4ssword" not in line


def test_socks_is_refused_in_one_line_where_it_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    """`evaluate` does not go around it."""
    monkeypatch.setenv("ALL_PROXY", "socks5://user:p4ssword@127.0.0.1:9")
    with pytest.raises(errors.ConfigError, match=r"a proxy with socks5:// is not supported here") as caught:
        evaluated(HaloClient(DEMO_KEY, base_url=ELSEWHERE))
    assert "p4ssword" not in str(caught.value)


EXPIRED = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "trusted", "not_after", "why"),
    [
        ("127.0.0.1", False, None, "unable to get local issuer certificate"),
        ("other.invalid", True, None, "not valid for '127.0.0.1'"),
        ("127.0.0.1", True, EXPIRED, "certificate has expired"),
    ],
    ids=["a company's", "another host's", "expired"],
)
def test_a_certificate_that_is_not_trusted_is_tried_once(
    name: str,
    *,
    trusted: bool,
    not_after: datetime | None,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It cannot get better. The line names it and SSL_CERT_FILE; nothing was sent."""
    authority = trustme.CA()
    not_before = not_after and not_after.replace(year=not_after.year - 1)
    certificate = authority.issue_cert(name, not_before=not_before, not_after=not_after)
    if trusted:
        authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    tries: list[int] = []

    def count(connection: socket.socket) -> None:
        connection.recv(1)  # raises when the client does not take the certificate

    with server(count, certificate, tries) as url:
        client = HaloClient(DEMO_KEY, base_url=url)
        with pytest.raises(errors.ConnectionFailed) as caught:
            client.ask("Hi")
        assert len(tries) == 1
        row = evaluated(client)
        assert len(tries) == 2
    line = str(caught.value)
    assert "its certificate is not trusted" in line and why in line and "SSL_CERT_FILE" in line
    assert (row.status, row.error) == ("failed", line) and len(line) < 400 and "\n" not in line
    assert caught.value.again_s is None and caught.value.arrived == "no"


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_companys_certificate_is_trusted_when_a_variable_names_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on this machine, and for a client that has failed before without it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))

    def answer(connection: socket.socket) -> None:
        received(connection)
        connection.sendall(HI)

    with server(answer, authority.issue_cert("127.0.0.1")) as url:
        client = HaloClient(DEMO_KEY, base_url=url)
        with pytest.raises(errors.ConnectionFailed):
            client.ask("Hi")
        monkeypatch.setenv(name, str(tmp_path / "authority.pem"))
        assert client.ask("Hi").text == evaluated(client).text == "hi"


def test_the_environment_is_read_again_without_a_loss(agent: DemoAgent) -> None:
    """A stream that is open while another one fails keeps its connection."""

    async def look_in_the_midst() -> None:
        async with AsyncHaloClient(DEMO_KEY, base_url=agent.url) as client, client.stream("Hi") as stream:
            client.look_again()
            assert (await stream.to_end()).status == "complete"

    asyncio.run(look_in_the_midst())
