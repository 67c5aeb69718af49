"""The routes where the hub tells of itself, in words."""

from sha_daemon import openapi_examples as examples
from sha_daemon.openapi_common import OPERATING
from sha_daemon.openapi_parts import Answer, Operation, shape

HEALTH = Operation(
    method="get",
    path="/api/v1/health",
    name="health",
    group=OPERATING,
    title="How the hub is",
    says="200 while updates are taken, else 503; either way with what is wrong. Never needs a token.",
    answers={
        200: shape("HealthReport", "Updates are taken.", examples.HEALTH),
        503: shape("HealthReport", "Updates are not taken; `database` says why.", examples.DEGRADED),
    },
)

METRICS = Operation(
    method="get",
    path="/metrics",
    name="metrics",
    group=OPERATING,
    title="Figures for Prometheus",
    says="In the text format. At every scrape, of every job type: `sha_updates_accepted_total` ="
    " `sha_updates_ended_total` (all results) + `sha_updates_waiting`.",
    answers={200: Answer(says="All figures.", media="text/plain", schema={"type": "string"}, example=examples.METRICS)},
)

DESCRIPTION = Operation(
    method="get",
    path="/api/v1/openapi.json",
    name="openapi",
    group=OPERATING,
    title="This description",
    says="OpenAPI 3.1.",
    answers={200: Answer(says="The description.", media="application/json", schema={"type": "object"})},
)

PAGE = Operation(
    method="get",
    path="/api/v1/docs",
    name="docs",
    group=OPERATING,
    title="This page",
    says="The description to browse. Loads nothing from elsewhere.",
    answers={200: Answer(says="The page.", media="text/html", schema={"type": "string"})},
)
