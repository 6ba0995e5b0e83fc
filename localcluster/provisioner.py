"""Makes a folder on this machine for every claim of the storage class `local`, and removes it afterwards.

Kubernetes has no provisioner of its own, and volumes made in advance run out. A claim of any access mode,
ReadWriteMany too, gets a folder that pods on the one real node share. It runs as a process of the cluster:

    python -m localcluster.provisioner URL AUTHORITY CERTIFICATE KEY VOLUMES_FOLDER
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from localcluster.api import Api, ApiRefused, Object
from localcluster.certificates import Pair
from localcluster.errors import ClusterError

_CLAIMS = "/api/v1/persistentvolumeclaims"
_CLASS = "local"
_ANNOTATION = "nlp-operator.io/local-folder"


def make_volume(claim: Object, folder: Path) -> Object:
    """The volume for a claim, bound to it by name and uid so that no other claim can take it."""
    metadata, spec = claim["metadata"], claim["spec"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": f"local-{metadata['uid']}",
            "annotations": {_ANNOTATION: str(folder)},
        },
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "hostPath": {"path": str(folder), "type": "Directory"},
            # The folder is removed here, not by Kubernetes: its own deleter knows only /tmp.
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": _CLASS,
        },
    }


def wants_volume(claim: Object) -> bool:
    """Whether a claim is ours to serve and still waits."""
    spec = claim["spec"]
    waits = claim.get("status", {}).get("phase") == "Pending" and not spec.get("volumeName")
    return waits and spec.get("storageClassName") == _CLASS and "deletionTimestamp" not in claim["metadata"]


def folder_of(claim: Object, volumes: Path) -> Path:
    """A name a user recognises: namespace, claim, and the uid's start to tell two of one name apart."""
    metadata = claim["metadata"]
    return volumes / f"{metadata['namespace']}-{metadata['name']}-{metadata['uid'][:8]}"


class Provisioner:
    def __init__(self, api: Api, volumes: Path) -> None:
        self._api = api
        self._volumes = volumes

    def look(self) -> str:
        """One pass: a volume for each waiting claim, no volume for a claim that is gone. What was seen, as a
        resource version."""
        claims = self._api.get(_CLAIMS)
        for claim in claims["items"]:
            if wants_volume(claim):
                self._make(claim)
        for volume in self._api.get("/api/v1/persistentvolumes")["items"]:
            folder = volume["metadata"].get("annotations", {}).get(_ANNOTATION)
            if folder and volume.get("status", {}).get("phase") == "Released":
                self._remove(volume["metadata"]["name"], Path(folder))
        version: str = claims["metadata"]["resourceVersion"]
        return version

    def run(self) -> None:
        """Look again whenever a claim changes, for ever. The API server may come and go."""
        while True:
            try:
                seen = self.look()
                # A volume is Released a moment after its claim went, without another change of a claim.
                self._api.wait_for_change(_CLAIMS, seen, seconds=10)
            except (ClusterError, OSError) as error:
                print(f"provisioner: {error}", file=sys.stderr, flush=True)
                time.sleep(0.5)

    def _make(self, claim: Object) -> None:
        folder = folder_of(claim, self._volumes)
        folder.mkdir(exist_ok=True)
        # Pods run as users of their own choice, and a host path takes no fsGroup.
        folder.chmod(0o777)
        self._api.apply(make_volume(claim, folder))
        print(f"provisioner: made {folder}", file=sys.stderr, flush=True)

    def _remove(self, name: str, folder: Path) -> None:
        # Only what lies in our own folder, whatever an annotation says.
        if folder.parent == self._volumes:
            shutil.rmtree(folder, ignore_errors=True)
        try:
            self._api.delete(f"/api/v1/persistentvolumes/{name}")
        except ApiRefused as error:
            if error.status != 404:
                raise


def main() -> None:
    url, authority, certificate, key, volumes = sys.argv[1:]
    Provisioner(Api(url, Path(authority), Pair(Path(certificate), Path(key))), Path(volumes)).run()


if __name__ == "__main__":
    main()
