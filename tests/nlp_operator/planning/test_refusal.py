"""What the status says when an object of a plan could not be written."""

from __future__ import annotations

from typing import Any

import pytest

from nlp_operator.api.conditions import read_conditions
from nlp_operator.planning.refusal import in_users_terms, with_refusal, with_wait
from tests.nlp_operator.making import NOW, World, make_model

MESSAGE = "The Deployment 'novels' in namespace 'demo' is on its way out; it is made anew once it is gone."


def told(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one.type: (one.status, one.reason) for one in read_conditions({"status": status})}


def test_what_has_to_wait_for_a_former_object_is_in_progress_and_says_so() -> None:
    model = World(make_model()).up().model
    status = with_wait(model["status"], "Leaving", MESSAGE, model, NOW)
    conditions = told(status)
    assert conditions["Ready"] == ("False", "Leaving")
    assert conditions["Reconciling"] == ("True", "Leaving")
    assert "Stalled" not in conditions
    assert conditions["Available"] == told(model["status"])["Available"], "the rest stays as planned"
    assert status["conditions"][0]["message"] == MESSAGE


def test_what_stalls_anyway_is_told_as_planned() -> None:
    world = World(make_model(placement={"poolNames": ["nowhere"]}))
    world.settle()
    planned = world.model["status"]
    assert told(planned)["Stalled"] == ("True", "NoSuchPool")
    assert with_wait(planned, "Leaving", MESSAGE, world.model, NOW) == planned


def test_a_refused_object_stalls_the_model() -> None:
    model = World(make_model()).up().model
    conditions = told(with_refusal(model["status"], "AdmissionRefused", "exceeded quota", model, NOW))
    assert (conditions["Ready"], conditions["Stalled"]) == (
        ("False", "AdmissionRefused"),
        ("True", "AdmissionRefused"),
    )
    assert "Reconciling" not in conditions


@pytest.mark.parametrize(
    ("refused", "field"),
    [
        pytest.param(
            'create deployments: Deployment.apps "a" is invalid: [spec.template.labels: Invalid value: "x!", '
            'spec.selector: Invalid value: "x"]',
            "spec.serving.pod.labels",
            id="a label of the pods",
        ),
        pytest.param(
            'patch deployments: Deployment.apps "a" is invalid: spec.template.spec.containers[0].resources.'
            'requests: Invalid value: "2Gi": must be less than or equal to memory limit of 1Gi',
            "spec.serving.pod.resources",
            id="a request above its limit",
        ),
        pytest.param(
            'create jobs: Job.batch "a" is invalid: spec.template.spec.containers[0].resources.requests: '
            'Invalid value: "2Gi": must be less than or equal to memory limit of 1Gi.',
            "spec.build.pod.resources",
            id="that of a Job",
        ),
        pytest.param(
            'create deployments: Deployment.apps "a" is invalid: spec.template.spec.tolerations[0].operator: '
            "Invalid value",
            "spec.nodes.tolerations of the DevicePool",
            id="a toleration of the pool",
        ),
        pytest.param(
            'create services: Service "a" is invalid: metadata.annotations: Invalid value: "b c"',
            "spec.serving.service.annotations",
            id="an annotation of the Service",
        ),
    ],
)
def test_refusal_names_the_field_of_the_user(refused: str, field: str) -> None:
    told = in_users_terms(refused)
    assert told == f"{refused.rstrip('.')}. There it is what {field} says: change it there."


@pytest.mark.parametrize(
    "refused",
    [
        'create services: services "a" is forbidden: exceeded quota: none, used: count/services=0',
        'create configmaps: ConfigMap "a" is invalid: metadata.annotations: Too long',
        'create deployments: Deployment.apps "a" is invalid: spec.replicas: Invalid value: -1',
    ],
    ids=["a quota", "an object that holds nothing of the user's", "a field that is ours"],
)
def test_refusal_that_is_of_no_field_of_the_user_is_told_as_it_is(refused: str) -> None:
    assert in_users_terms(refused) == refused
