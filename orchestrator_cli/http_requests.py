"""Requests of our own: on loopback without a proxy, and never redirected to another host."""

import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def urlopen(request: urllib.request.Request | str, timeout: float, tls: ssl.SSLContext | None = None) -> Any:
    """Open an address; on loopback, without a proxy. Raises `OSError` and `ValueError`.

    Redirects are followed on the same host only, because urllib sends a key along to any.
    """
    url = request if isinstance(request, str) else request.full_url
    direct = urllib.parse.urlsplit(url).hostname in LOOPBACK
    # urllib does not find ::1 in NO_PROXY.
    proxies = [urllib.request.ProxyHandler({})] if direct else []
    context = [urllib.request.HTTPSHandler(context=tls)] if tls else []
    return urllib.request.build_opener(_SameHost, *context, *proxies).open(request, timeout=timeout)


class _SameHost(urllib.request.HTTPRedirectHandler):
    max_redirections = 3

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        here, there = map(urllib.parse.urlsplit, (req.full_url, newurl))
        upgraded = (here.scheme, there.scheme) == ("http", "https")
        if here.hostname != there.hostname or not (upgraded or here[:2] == there[:2]):
            raise urllib.error.URLError(f"{here.netloc} redirects to {there.netloc}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
