"""The sources over the network, one file each, and what they share (docs/sources.md).

https.py  s3.py  hugging_face.py  oci.py     one source each: its files, and the bytes of each
remote.py                                     what they all are to a fetch
web.py                                        GET over TLS, for those that speak HTTP
network.py                                    which addresses may be connected to
credentials.py                                the input's Secret
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from model_builders.messages import HttpsSource, HuggingFaceSource, InputToFetch, OciSource
from model_builders.sources.credentials import read_credentials

if TYPE_CHECKING:
    from model_builders.sources.remote import Remote


def open_remote(wanted: InputToFetch, redirect_hosts: Sequence[str]) -> "Remote":
    """The source an input names. The libraries of a source are loaded when it is asked for."""
    credentials = read_credentials(wanted.name, wanted.credentials)
    source = wanted.network
    assert source is not None, "only inputs from the network come here"
    if isinstance(source, HttpsSource):
        from model_builders.sources.https import HttpsFile

        return HttpsFile(source, wanted.sha256, credentials, redirect_hosts)
    if isinstance(source, HuggingFaceSource):
        from model_builders.sources.hugging_face import HuggingFaceRepository

        return HuggingFaceRepository(source, credentials, redirect_hosts)
    if isinstance(source, OciSource):
        from model_builders.sources.oci import OciArtifact

        return OciArtifact(source, credentials, redirect_hosts)
    from model_builders.sources.s3 import S3Objects

    return S3Objects(source, credentials)
