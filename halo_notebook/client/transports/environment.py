"""What the environment says about the network: proxies, hosts without a proxy, and certificates.

Every transport asks here, so that all messages take the same way. No user name or password is read from a
``.netrc`` file: only the key goes with a request.
"""

from __future__ import annotations

import os
import ssl
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ...errors import ConfigError
from ..settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

SOCKS = ("socks5", "socks5h")


def proxy_for(base_url: str, schemes: Sequence[str] = ("http", "https", *SOCKS)) -> httpx.Proxy | None:
    """The proxy for requests to `base_url`, or None; none sees what goes to this machine.

    Raises:
        ConfigError: for a proxy that cannot be used, or whose scheme is not one of `schemes`: a request does
            not go around it.
    """
    if is_loopback(base_url):
        return None
    from urllib.request import getproxies, getproxies_environment, proxy_bypass  # heavy

    parts = urlsplit(base_url)
    host, port = parts.hostname or "", parts.port or 443
    # Where the environment names no proxy, Windows and macOS have settings of their own.
    given = getproxies_environment()
    proxies = given or getproxies()
    proxy = (proxies.get(parts.scheme) or proxies.get("all") or "").strip()
    if not proxy or (_is_listed(given.get("no", ""), host, port) if given else proxy_bypass(host)):
        return None
    import httpx

    try:
        address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        valid = address.hostname and address.port != 0 and proxy.isprintable() and " " not in proxy
        if valid and address.scheme not in schemes:
            raise not_set_up(f"a proxy with {address.scheme}:// is not supported here")
        if valid:
            return httpx.Proxy(address.geturl())
    except (ValueError, httpx.InvalidURL):
        pass
    raise not_set_up("the proxy's address is not valid")


def _is_listed(no_proxy: str, host: str, port: int) -> bool:
    """Whether NO_PROXY names that host: itself, a domain above it, its address, or a network with it."""
    host = host.rstrip(".")
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    for entry in no_proxy.lower().replace(",", " ").split():
        name, only = entry, ""
        if entry.count(":") == 1 or "]:" in entry:  # an address of IPv6 has colons, too
            name, _, only = entry.rpartition(":")
        if only not in ("", str(port)):
            continue
        if name == "*":
            return True
        try:
            named = address is not None and address in ip_network(name.strip("[]"), strict=False)
        except ValueError:
            named = False
        domain = name.removeprefix("*").strip(".")
        if named or (address is None and domain and f".{host}".endswith(f".{domain}")):
            return True
    return False


def certificates(base_url: str) -> ssl.SSLContext:
    """The authorities that are trusted: those of SSL_CERT_FILE and SSL_CERT_DIR, else those of
    REQUESTS_CA_BUNDLE, else certifi's. Raises `ConfigError` for a variable that names none."""
    if base_url.startswith("http:"):
        # Without https no certificates are needed, and loading them takes a while.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    variable = "SSL_CERT_FILE"
    file, folders = (os.environ.get(name, "").strip() for name in (variable, "SSL_CERT_DIR"))
    if not file and not folders:
        variable = "REQUESTS_CA_BUNDLE"
        file = os.environ.get(variable, "").strip()
        if _is_folder(file):
            file, folders = "", file
    elif folders and not any(_is_folder(folder) for folder in folders.split(os.pathsep)):
        raise not_set_up("SSL_CERT_DIR does not name a folder")
    try:
        if file or folders:
            return ssl.create_default_context(cafile=file or None, capath=folders or None)
        from httpx import create_ssl_context

        return create_ssl_context(trust_env=False)
    except ssl.SSLError:
        raise not_set_up(f"{variable} names a file that is not a list of certificates") from None
    except OSError as error:
        raise not_set_up(f"{variable}: {error.strerror or error}") from None


def _is_folder(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  # Path's raises an OSError for a name that is too long


def not_set_up(why: object) -> ConfigError:
    """The error for an environment that no network can be set up with."""
    return ConfigError(
        f"The network could not be set up ({why}). Nothing was sent; check the proxy and certificate "
        "variables (HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE)."
    )
