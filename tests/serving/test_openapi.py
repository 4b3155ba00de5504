"""The OpenAPI document holds: schemathesis makes requests from it, and checks every answer against it."""

import pytest

for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx", "schemathesis"):
    pytest.importorskip(package, reason=f"needs {package}: pip install 'gankit[serve]' httpx schemathesis")

import schemathesis  # noqa: E402
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from schemathesis import GenerationMode  # noqa: E402
from serving_making import noise, png, running  # noqa: E402

# Images and what only looks like them. Text in their place is what the schema rules out.
IMAGES = st.sampled_from([png(), png(noise(5, 3)), png(noise(4, 4, channels=1)), png()[:60], b"no image", b""])
schemathesis.openapi.format("binary", IMAGES)


@pytest.fixture(scope="module")
def described(files):
    """The schema of a service that asks for a token."""
    with running(files, token="t", max_pixels=10_000, max_result_pixels=100_000) as made:
        schema = schemathesis.openapi.from_url(f"{made.url}/openapi.json")
        checks = schema.config.checks
        # The schema cannot say that two arguments contradict each other, or which names and images there are.
        checks.positive_data_acceptance.expected_statuses = ["2xx", "400", "404", "406", "413", "415", "422"]
        yield schema


OPERATIONS = [
    ("/upscale", "POST"),
    ("/translate", "POST"),
    ("/generate", "POST"),
    ("/models", "GET"),
    ("/healthz", "GET"),
    ("/metrics", "GET"),
]


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_is_described(described, path, method, mode):
    """Requests that fit the schema, and requests that do not."""
    operation = described[path][method]
    if mode == GenerationMode.NEGATIVE and method == "GET":
        pytest.skip("it has no arguments that could be wrong")
    asked = []

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def check(case):
        asked.append(case.call_and_validate(headers={"Authorization": "Bearer t"}).status_code)

    check()
    assert method == "GET" or len(asked) > 50
    assert mode == GenerationMode.NEGATIVE or 200 in asked


def test_the_document(service, client):
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {"/upscale", "/translate", "/generate", "/models", "/healthz", "/metrics"}
    answers = document["paths"]["/upscale"]["post"]["responses"]
    assert set(answers["200"]["content"]) == {"image/png", "image/jpeg", "image/webp"}
    assert {"400", "404", "413", "415", "422", "429", "503"} <= set(answers)
    assert answers["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/Detail")
    assert "Retry-After" in answers["429"]["headers"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert "securitySchemes" not in document["components"]
