"""The reference of all single updates: the same HTTP server, which reads the body, does nothing, and answers 204.

python -m benchmarks.reference_empty PORT
"""

import sys

from aiohttp import web

from telemetry_common.contract import MAX_BODY_BYTES


async def _post(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(status=204)


def main() -> None:
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/api/v1/telemetry/{job_type}/{job_id}", _post)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=lambda line: None)


if __name__ == "__main__":
    main()
