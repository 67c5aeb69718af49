"""Every route of the hub in words: what it takes, and each answer that it can give. The tests provoke each of them."""

from sha_daemon import openapi_operating as operating
from sha_daemon import openapi_reading as reading
from sha_daemon import openapi_reporting as reporting

OPERATIONS = (
    reading.LIST,
    reporting.WITHOUT_ID,
    reading.JOB,
    reporting.REPORT,
    reading.HISTORY,
    reading.STREAM,
    reporting.BATCH,
    reporting.WITH_EMPTY_ID,
    operating.HEALTH,
    operating.METRICS,
    operating.DESCRIPTION,
    operating.PAGE,
)
"""In the order of their paths, as the description lists them."""
