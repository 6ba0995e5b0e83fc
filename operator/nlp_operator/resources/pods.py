"""What all our pods have in common: Pod Security `restricted` and more, and how resources are merged."""

from __future__ import annotations

from nlp_operator.api.objects import Obj
from nlp_operator.api.spec import Resources, SecretName
from nlp_operator.resources.settings import PlanSettings

GIBIBYTE = 1024**3

_FACTORS = {
    "": 1000,
    "m": 1,
    "k": 1000 * 10**3,
    "M": 1000 * 10**6,
    "G": 1000 * 10**9,
    "T": 1000 * 10**12,
    "Ki": 1000 * 2**10,
    "Mi": 1000 * 2**20,
    "Gi": 1000 * 2**30,
    "Ti": 1000 * 2**40,
}


def thousandths(quantity: str | int) -> int:
    """A quantity of the form the schema admits, in thousandths, rounded down: 500m is 500, 1Ki is
    1,024,000."""
    text = str(quantity)
    suffix = next((s for s in ("Ki", "Mi", "Gi", "Ti", "m", "k", "M", "G", "T") if text.endswith(s)), "")
    whole, _, fraction = text.removesuffix(suffix).partition(".")
    digits: int = 10 ** len(fraction)
    return int(whole + fraction) * _FACTORS[suffix] // digits


def pod_security(settings: PlanSettings) -> Obj:
    context: Obj = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if settings.run_as_user is not None:
        user = settings.run_as_user
        context |= {
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            # A big store is not walked at every start of a pod.
            "fsGroupChangePolicy": "OnRootMismatch",
        }
    return context


def container_security() -> Obj:
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def bare_pod(settings: PlanSettings, pull_secrets: list[SecretName]) -> Obj:
    """Fields of a pod spec that do not depend on what runs in it. No token: our pods never talk to the
    API."""
    spec: Obj = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(settings),
    }
    if pull_secrets:
        spec["imagePullSecrets"] = [{"name": secret.name} for secret in pull_secrets]
    return spec


def merged_resources(requests: dict[str, str], limits: dict[str, str], wish: Resources | None) -> Obj:
    """Our defaults under the user's wish.

    The API refuses a request above its limit, so a default gives way to a wish on the other side: a wished
    limit below the default request lowers the request, a wished request above the default limit raises the
    limit.
    """
    wished_requests = {key: str(value) for key, value in (wish.requests if wish else {}).items()}
    wished_limits = {key: str(value) for key, value in (wish.limits if wish else {}).items()}
    merged_requests = {**requests, **wished_requests}
    merged_limits = {**limits, **wished_limits}
    for key, limit in wished_limits.items():
        if key not in wished_requests and _above(merged_requests.get(key), limit):
            merged_requests[key] = limit
    for key, request in wished_requests.items():
        if key not in wished_limits and key in merged_limits and _above(request, merged_limits[key]):
            merged_limits[key] = request
    return {"requests": merged_requests, "limits": merged_limits}


def _above(request: str | None, limit: str) -> bool:
    return request is not None and thousandths(request) > thousandths(limit)
