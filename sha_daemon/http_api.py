"""The HTTP surface on aiohttp, put together: every route of the hub is in one of the `http_*` modules listed here."""

from aiohttp import web

from sha_daemon import http_docs, http_metrics, http_reading, http_receiving, http_stream
from sha_daemon.app import Hub
from sha_daemon.gate import Gate
from sha_daemon.http_access import guarded
from sha_daemon.http_answers import REJECTED, answering, nameless, nowhere
from sha_daemon.http_bodies import BodyRoom
from sha_daemon.http_large_answers import AnswerRoom
from telemetry_common.contract import MAX_BODY_BYTES


def application(hub: Hub, gate: Gate) -> web.Application:
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.on_response_prepare.append(nameless)
    app[REJECTED] = hub.receiver.rejected
    room, answers = BodyRoom(hub.turned_away), AnswerRoom()
    app.add_routes(answering(guarded(http_receiving.routes(hub.receiver), gate, room), answers))
    app.add_routes(answering(guarded(http_stream.routes(hub.stream), gate, room), answers))
    app.on_shutdown.append(http_stream.ending(hub.stream))
    app.add_routes(answering(guarded(http_reading.routes(hub.reader), gate, room), answers))
    app.add_routes(answering(guarded(http_metrics.routes(hub), gate, room), answers))
    app.add_routes(answering(guarded(http_docs.routes(), gate, room), answers))
    app.add_routes(answering([web.route("*", "/{anywhere:(?s:.*)}", nowhere)], answers))  # a path may hold a line break
    return app
