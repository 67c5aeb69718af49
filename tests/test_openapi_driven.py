"""The description drives a real hub on a real database: no request that can be made from it is a fault of the hub, and
every answer is as described.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from sha_daemon.config import DatabaseSettings
from tests.support.databases import OnMariaDB, running
from tests.support.stage import RealHub, hub

__all__ = ["hub"]
pytestmark = pytest.mark.integration

JOBS = 20
"""Known jobs: without them every message would be a 404, and none would reach the rules."""
MANY, FEW = 300, 40
"""Requests of each kind to the operation that takes bodies, and to any other."""
BEYOND_SCHEMAS = (
    "`cursor`",
    "`job_id` of the body differs",
    "`job_type` of the body differs",
    "`disks` names a `disk_index` more than once",
    "Expected `int`, got `float`",  # by JSON Schema 5.0 is an integer, too
    "the path has no job_id",
)
"""How the detail of a 400 begins that answers what no schema can rule out."""

Answers = Counter[tuple[str, int]]


@pytest.fixture
def api(hub: RealHub, migrated_database: DatabaseSettings) -> Any:
    tables = OnMariaDB(migrated_database)
    for number in range(JOBS):
        tables.add_job(running(f"job-{number}"))
    tables.close()
    return schemathesis.openapi.from_url(f"{hub.url}/api/v1/openapi.json", config=SchemathesisConfig())


def test_no_request_made_from_the_description_is_a_fault_and_every_answer_is_as_described(api: Any) -> None:
    answers = Answers()
    with requests.Session() as session:
        for operation in operations(api):
            for mode, cases in strategies(operation):
                drive(cases, mode, MANY if operation.body and "{job_id}" in operation.path else FEW, session, answers)
    assert {name for name, _ in answers} == {operation.label for operation in operations(api)}
    assert answers["POST /api/v1/telemetry/{job_type}/{job_id}", 204] > MANY / 10


def operations(api: Any) -> Iterator[Any]:
    """All but the stream, whose answer has no end."""
    return (found.ok() for found in api.get_all_operations() if not found.ok().path.endswith("/stream"))


def strategies(operation: Any) -> Iterator[tuple[GenerationMode, Any]]:
    """Legal requests and others; where it takes a job's id, any id, and those of the jobs that there are."""
    known = [{"job_type": "backup", "job_id": f"job-{n}"} for n in range(JOBS)] if "{job_id}" in operation.path else []
    for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
        legal = mode is GenerationMode.POSITIVE
        if legal or operation.path_parameters or operation.query or operation.body:
            yield mode, operation.as_strategy(mode)
        if known and (legal or operation.body):
            yield mode, st.one_of([operation.as_strategy(mode, path_parameters=path) for path in known])


def drive(cases: Any, mode: GenerationMode, examples: int, session: requests.Session, answers: Answers) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def ask(case: Any) -> None:
        legal = mode is GenerationMode.POSITIVE
        if legal and isinstance(case.body, dict):
            case.body.pop("job_id", None)  # it would differ from the path's, almost always
        # An update of a batch that is bad is refused within a 200.
        batch = [negative_data_rejection] if case.operation.path.endswith("/batch") else []
        answer = case.call_and_validate(session=session, excluded_checks=[positive_data_acceptance, *batch])
        answers[case.operation.label, answer.status_code] += 1
        if legal and answer.status_code == 400:
            assert answer.json()["detail"].startswith(BEYOND_SCHEMAS)

    ask()
