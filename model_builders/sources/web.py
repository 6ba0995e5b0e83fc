"""GET over TLS for the sources that speak HTTP: no redirect to strangers, no credentials to them either.

A redirect is followed by hand, at most five times, to the same host or to one that is declared; what was
meant for the first host (Authorization) stays with it. Bodies come as they are on the wire, in chunks, and
whatever breaks on the way says `Interrupted`, so that the caller can go on from where it was.
"""

import base64
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, NameResolutionError, SSLError
from urllib3.util import Timeout

from model_builders.digests import CHUNK_BYTES
from model_builders.errors import JobError, Refused, TryAgain
from model_builders.sources.credentials import CA, Credentials

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 60.0
"""A connection without a byte for this long is given up and taken up again."""
MAX_REDIRECTS = 5
MAX_DOCUMENT_BYTES = 64 << 20
"""The largest listing or manifest; the largest real ones have a few MB."""

USER_AGENT = "nlp-operator"


class Interrupted(Exception):
    """A connection or a server failed in a way that passes; the text says how, without a full stop."""


@dataclass(frozen=True)
class Body:
    """The bytes of a file from `offset` on."""

    offset: int
    """Where they begin: less than asked for (0) when the server cannot begin elsewhere."""
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    url: str
    """The one that answered, after redirects."""
    chunks: Iterator[bytes]

    def read(self, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
        """The whole body of a document. Raises Refused when it is larger than any honest one."""
        content = b""
        for chunk in self.chunks:
            content += chunk
            if len(content) > limit:
                raise Refused(
                    "InputTooLarge", f"The answer of {host_of(self.url)} has more than {limit:,} bytes."
                )
        return content


def host_of(url: str) -> str:
    """Host and port, in lower case; the port only where it is not the one of https."""
    return urlsplit(url).netloc.lower().removesuffix(":443")


def is_declared(host: str, hosts: Sequence[str]) -> bool:
    """Whether a host is in the list. `*.example.com` is every host below example.com; ports count."""
    return any(
        host == one or (one.startswith("*.") and host.endswith(one[1:])) for one in map(str.lower, hosts)
    )


def basic(user: str, password: str) -> dict[str, str]:
    # UTF-8, as RFC 7617 has it since 2015.
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    return {"Authorization": f"Basic {encoded}"}


class Web:
    """`redirect_hosts`: where a source's own host may send us on to."""

    def __init__(self, credentials: Credentials, redirect_hosts: Sequence[str]) -> None:
        self._name = credentials.input
        self._redirect_hosts = tuple(redirect_hosts)
        self._pool = urllib3.PoolManager(
            ssl_context=make_tls(credentials),
            retries=False,
            timeout=Timeout(connect=CONNECT_SECONDS, read=SILENCE_SECONDS),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        )

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[Answer]:
        """Whatever the last host answers, with any status but a redirect.

        Raises Interrupted, and Refused for a redirect or an address that is not allowed.
        """
        own, sent = host_of(url), dict(headers or {})
        for _ in range(MAX_REDIRECTS + 1):
            response = self._send(url, sent)
            try:
                location = response.headers.get("Location")
                if response.status not in (301, 302, 303, 307, 308) or not location:
                    lower = {key.lower(): value for key, value in response.headers.items()}
                    yield Answer(response.status, lower, url, self._chunks(url, response))
                    return
            finally:
                # Not back into the pool: a body that was left half read would be taken for the next answer.
                response.close()
            url = self._next(own, url, location)
            if host_of(url) != own:
                sent = {key: value for key, value in sent.items() if key.lower() != "authorization"}
        raise Refused(
            "NetworkRefused",
            f"Input {self._name!r}: {own} redirects more than {MAX_REDIRECTS} times in a row.",
        )

    def _send(self, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        merged = {**self._pool.headers, **headers}
        try:
            return self._pool.request(
                "GET", url, headers=merged, redirect=False, preload_content=False, decode_content=False
            )
        except HTTPError as error:
            raise self._failed(url, error) from error

    def _chunks(self, url: str, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        try:
            yield from response.stream(CHUNK_BYTES, decode_content=False)
        except HTTPError as error:
            raise self._failed(url, error) from error

    def _failed(self, url: str, error: HTTPError) -> Exception:
        if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
            return Refused(
                "InputUnreachable",
                f"Input {self._name!r}: the certificate of {host_of(url)} is not trusted: "
                f"{verification_words(error)}. For an authority of your own, put its certificate under the "
                f"key {CA!r} of the input's Secret.",
            )
        if isinstance(error, NameResolutionError):
            return Interrupted(f"the name {urlsplit(url).hostname} cannot be resolved")
        return Interrupted(f"the connection to {host_of(url)} failed: {short(error)}")

    def _next(self, own: str, url: str, location: str) -> str:
        after = urljoin(url, location)
        if not after.startswith("https://"):
            raise Refused(
                "NetworkRefused",
                f"Input {self._name!r}: {own} redirects to {origin(after)}, which is not https. "
                "Name the final address in the source.",
            )
        host = host_of(after)
        if host != own and not is_declared(host, self._redirect_hosts):
            raise Refused(
                "NetworkRefused",
                f"Input {self._name!r}: {own} redirects to another host, {host}. Name the final address in "
                "the source, or have the administrator add the host to the operator's setting "
                "fetch-redirect-hosts.",
            )
        return after


def make_tls(credentials: Credentials) -> ssl.SSLContext:
    """The system's authorities, and the one in the input's Secret."""
    context = ssl.create_default_context()
    if credentials.ca_file is not None:
        try:
            context.load_verify_locations(cafile=credentials.ca_file)
        except ssl.SSLError as error:
            raise Refused(
                "CredentialsInvalid",
                f"Input {credentials.input!r}: the key {CA!r} of its Secret holds no certificate in PEM.",
            ) from error
    return context


def refuse_status(
    name: str, answer: Answer, what: str, credentials: Credentials, keys: Sequence[str]
) -> None:
    """Turns a status that is no success into what the user reads.

    Raises Interrupted for one that passes (429, 5xx), else Refused.
    """
    status, host = answer.status, host_of(answer.url)
    if 200 <= status < 300:
        return
    if status in (401, 403):
        raise Refused(
            "InputForbidden",
            f"Input {name!r}: {host} refused {what} (HTTP {status}). {credentials.in_words(keys)}",
        )
    if status in (404, 410):
        raise Refused("InputMissing", f"Input {name!r}: {host} has no {what} (HTTP {status}).")
    if status == 429 or status >= 500:
        raise Interrupted(f"{host} answered HTTP {status}")
    raise Refused("InputRefused", f"Input {name!r}: {host} answered HTTP {status} when asked for {what}.")


def content_range_start(answer: Answer) -> int:
    """Where the body of an answer begins: 0, but for a 206 with a proper Content-Range."""
    if answer.status != 206:
        return 0
    unit, _, rest = answer.headers.get("content-range", "").partition(" ")
    start = rest.partition("-")[0]
    if unit != "bytes" or not start.isdecimal():
        raise Interrupted(f"{host_of(answer.url)} answered a part without saying which")
    return int(start)


def origin(url: str) -> str:
    """Scheme and host of a URL: paths and queries of redirects may hold secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def verification_words(error: BaseException) -> str:
    """`self-signed certificate in certificate chain`, from what OpenSSL says around it."""
    text = str(error)
    _, found, after = text.partition("certificate verify failed: ")
    return after.partition(" (_ssl.c")[0] if found else short(error)


def short(error: BaseException) -> str:
    """The words of a library's error, without the object it names first."""
    return str(error).rpartition("): ")[2][:200] or type(error).__name__


def job_error_in(error: BaseException) -> JobError | None:
    """What our own guard said, when a library wrapped it in errors of its own."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, JobError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def unreachable(name: str, why: str) -> TryAgain:
    return TryAgain(
        "InputUnreachable",
        f"Input {name!r}: {why}. What was fetched is kept; the Job is tried again.",
    )
