"""A hub as the first one was: one transaction for each row of each request, over eight connections on eight threads.

python -m benchmarks.reference_per_row PORT SOCKET USER DATABASE
"""

import asyncio
import queue
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pymysql
from aiohttp import web

CONNECTIONS = 8
_JOB = """UPDATE backup_jobs SET status = %s, current_phase = %s, bytes_transferred = %s, total_bytes = %s,
 transfer_speed_bps = %s, eta_seconds = %s, progress_percent = %s, last_telemetry_at = UTC_TIMESTAMP() WHERE id = %s"""
_DISK = """UPDATE backup_disks SET status = %s, bytes_transferred = %s, total_bytes = %s, progress_percent = %s
 WHERE backup_job_id = %s AND disk_index = %s"""
_JOB_FIELDS = ("status", "current_phase", "bytes_transferred", "total_bytes", "transfer_speed_bps", "eta_seconds")


class Store:
    def __init__(self, socket: str, user: str, database: str) -> None:
        self._threads = ThreadPoolExecutor(CONNECTIONS)
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(CONNECTIONS):
            self._free.put(pymysql.connect(unix_socket=socket, user=user, database=database, charset="utf8mb4"))

    async def post(self, request: web.Request) -> web.Response:
        update = msgspec.json.decode(await request.read())
        job_id = request.match_info["job_id"]
        await asyncio.get_running_loop().run_in_executor(self._threads, self._write, job_id, update)
        return web.Response(status=204)

    def _write(self, job_id: str, update: dict[str, Any]) -> None:
        connection = self._free.get()
        with connection.cursor() as cursor:
            cursor.execute(_JOB, (*(update[name] for name in _JOB_FIELDS), update["progress_percent"], job_id))
            connection.commit()
            for disk in update["disks"]:
                status = "running" if disk["status"] == "transferring" else disk["status"]
                figures = (disk["bytes_transferred"], disk["total_bytes"], disk["progress_percent"])
                cursor.execute(_DISK, (status, *figures, job_id, disk["disk_index"]))
                connection.commit()
        self._free.put(connection)


def main() -> None:
    port, *database = sys.argv[1:]
    app = web.Application()
    app.router.add_post("/api/v1/telemetry/{job_type}/{job_id}", Store(*database).post)
    web.run_app(app, host="127.0.0.1", port=int(port), access_log=None, print=lambda line: None)


if __name__ == "__main__":
    main()
