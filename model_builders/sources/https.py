"""One file from a web server, pinned by its sha256: `https {url}`.

Its name in the store is the last part of the URL's path. Secret: `token` (sent as Bearer), or `username` and
`password` (sent as Basic), and `ca.crt`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from model_builders.messages import HttpsSource
from model_builders.sources.credentials import Credentials
from model_builders.sources.remote import Kind, RemoteFile
from model_builders.sources.web import Body, Web, basic, content_range_start, host_of, refuse_status

KEYS = ("token", "username", "password")


class HttpsFile:
    kind: Kind = "File"

    def __init__(
        self, source: HttpsSource, sha256: str, credentials: Credentials, redirect_hosts: Sequence[str]
    ) -> None:
        self._url, self._sha256, self._credentials = source.url, sha256, credentials
        self._web = Web(credentials, redirect_hosts)
        self.shown = f"https://{host_of(source.url)}{urlsplit(source.url).path}"

    def files(self) -> list[RemoteFile]:
        name = unquote(urlsplit(self._url).path.rpartition("/")[2])
        return [RemoteFile(name, self._sha256, sha256=self._sha256)]

    @contextmanager
    def read(self, file: RemoteFile, offset: int) -> Iterator[Body]:
        headers = _login(self._credentials)
        if offset:
            headers["Range"] = f"bytes={offset}-"
        with self._web.get(self._url, headers) as answer:
            if offset and answer.status == 416:
                # Nothing lies beyond: what there is may be whole, which its sha256 will say.
                yield Body(offset, iter(()))
                return
            refuse_status(self._credentials.input, answer, self.shown, self._credentials, KEYS)
            yield Body(content_range_start(answer), answer.chunks)


def _login(credentials: Credentials) -> dict[str, str]:
    if credentials.get("token"):
        return {"Authorization": f"Bearer {credentials.get('token')}"}
    pair = credentials.pair("username", "password")
    return basic(*pair) if pair else {}
