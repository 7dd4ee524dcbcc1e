"""What the environment says about the network: proxies, hosts without a proxy, and certificates.

Every transport asks here, so that all messages take the same way. No user name or password is read from a
``.netrc`` file: only the key goes with a request.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...errors import ConfigError
from ..settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Sequence

SOCKS = ("socks5", "socks5h")


def proxy_for(base_url: str, schemes: Sequence[str] = ("http", "https", *SOCKS)) -> str | None:
    """The proxy for requests to `base_url`, or None; none sees what goes to this machine.

    Raises:
        ConfigError: for a proxy whose scheme is not one of `schemes`; a request does not go around it.
    """
    if is_loopback(base_url):
        return None
    from urllib.request import getproxies, proxy_bypass  # heavy

    parts = urlsplit(base_url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or any(proxy_bypass(host) for host in (parts.hostname or "", parts.netloc)):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        scheme = urlsplit(proxy).scheme.lower()
    except ValueError:
        raise not_set_up("the proxy's address is not valid") from None
    if scheme not in schemes:
        raise not_set_up(f"a proxy with {scheme}:// is not supported here")
    return proxy


def certificates(base_url: str) -> ssl.SSLContext:
    """The authorities that are trusted: those of SSL_CERT_FILE or SSL_CERT_DIR, else certifi's."""
    if base_url.startswith("http:"):
        # Without https no certificates are needed, and loading them takes a while.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    import httpx

    try:
        return httpx.create_ssl_context()
    except (OSError, ssl.SSLError) as error:
        raise not_set_up(str(error)) from error


def not_set_up(why: Any) -> ConfigError:
    """The error for an environment that no network can be set up with."""
    return ConfigError(
        f"The network could not be set up ({why}). Nothing was sent; check the proxy and certificate "
        "variables (HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE)."
    )
