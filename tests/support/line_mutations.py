"""Lines that no producer would write, made from those that producers do write. The same seed gives the same lines."""

import random
import re

from tests.support.mutations import NASTY, Mutator

ORIGINALS = (
    b'{"job_id":"j1","status":"running","current_phase":"transferring","total_bytes":1000,"attach":true,"ack":1}',
    b'{"job_id":"j1","bytes_transferred":400}',
    b'{"bytes_transferred":800,"progress_percent":80.5}',
    b'{"bytes_transferred":900,"transfer_speed_bps":125000000,"eta_seconds":512,"ack":"two"}',
    b'{"job_id":"j2","disks":[{"disk_index":0,"bytes_transferred":5,"total_bytes":10,"status":"transferring"},'
    b'{"disk_index":1,"status":"pending"}],"ack":3}',
    b'{"job_id":"j3","attach":{"disks":[0],"of":2},"status":"running","ack":4}',
    b'{"job_id":"j3","attach":{"disks":[1],"of":2},"status":"completed"}',
    b'{"job_id":"j4","status":"completed","bytes_transferred":1000,"ack":5}',
    b'{"job_id":"j5","status":"failed","error":{"message":"no","code":"E1","timestamp":"2025-10-10T14:23:45Z"},"ack":6}',
    b'{"job_id":"j6","status":"cancelled","timestamp":"2025-10-10T14:23:45Z"}',
    b'{"hello":1}',
    b'{"hello":1,"ack":7}',
    b'{"job_id":"j1","job_type":"backup","seq":5,"age_seconds":1.5,"idle_seconds":0.5,"unknown":[1,{"x":null}]}',
)
KEYS = ("ack", "attach", "hello", "job_id", "of", "disks")
_JOB = re.compile(rb'"j\d"')
_JOBS = 2_000
"""Over which the lines are spread: else all would be about jobs that have ended."""


class LineMutator:
    """`line` gives the next one, its newline included; now and then there are several, or none."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._mutator = Mutator(ORIGINALS, seed)

    def line(self) -> bytes:
        r = self._random
        body = _JOB.sub(b'"job-%d"' % r.randrange(_JOBS), self._mutator.body())
        if r.random() < 0.15:
            body = self._with_key(body)
        if r.random() < 0.001:
            body += b" " * r.choice((65_534, 65_536, 200_000))
        return body + r.choice((b"\n",) * 30 + (b"\r\n", b"\n\n", b"", b"\x00\n"))

    def _with_key(self, body: bytes) -> bytes:
        """One of this socket's own fields, with whatever value, in front."""
        r = self._random
        value = r.choice((*NASTY, b"1", b'"x"', b'{"disks":[0,1],"of":2}', b'{"disks":[],"of":0}', b'{"of":70000}'))
        return b'{"' + r.choice(KEYS).encode() + b'":' + value + b"," + body[1:]
