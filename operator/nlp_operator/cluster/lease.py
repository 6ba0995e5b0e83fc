"""The Lease object, as the engine's `LeaseStore`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from nlp_operator import errors
from nlp_operator.api.objects import Obj, dig
from nlp_operator.cluster.client import Cluster
from nlp_operator.cluster.kinds import LEASE
from nlp_operator.engine.leader import Lease, LeaseChanged


@dataclass(frozen=True)
class ClusterLease:
    cluster: Cluster
    namespace: str
    name: str

    async def read(self) -> Lease | None:
        try:
            return _parse(await self.cluster.get(LEASE, self.namespace, self.name))
        except errors.NotFound:
            return None

    async def write(self, lease: Lease) -> Lease:
        body: Obj = {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {
                "holderIdentity": lease.holder,
                "leaseDurationSeconds": lease.duration_seconds,
                "leaseTransitions": lease.transitions,
                "acquireTime": _stamp(lease.acquired),
                "renewTime": _stamp(lease.renewed),
            },
        }
        try:
            if not lease.version:
                return _parse(await self.cluster.create(LEASE, body))
            body["metadata"]["resourceVersion"] = lease.version
            return _parse(await self.cluster.replace(LEASE, body))
        except (errors.Conflict, errors.NotFound) as error:
            raise LeaseChanged(str(error)) from error


def _parse(obj: Obj) -> Lease:
    return Lease(
        holder=str(dig(obj, "spec", "holderIdentity", default="")),
        duration_seconds=int(dig(obj, "spec", "leaseDurationSeconds", default=15)),
        acquired=_moment(dig(obj, "spec", "acquireTime")),
        renewed=_moment(dig(obj, "spec", "renewTime")),
        transitions=int(dig(obj, "spec", "leaseTransitions", default=0)),
        version=str(dig(obj, "metadata", "resourceVersion", default="")),
    )


def _stamp(moment: datetime | None) -> str | None:
    """A metav1.MicroTime."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _moment(text: str | None) -> datetime | None:
    return None if not text else datetime.fromisoformat(text)
