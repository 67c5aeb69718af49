"""A hub that is built otherwise, to measure what each choice is worth.

python -m benchmarks.hub_variant WRITERS LOOP --config PATH
"""

import asyncio
import sys

from sha_daemon import app, main


def run() -> None:
    writers, loop, *sys.argv[1:] = sys.argv[1:]
    app.WRITERS = int(writers)
    if loop == "uvloop":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    main.main()


if __name__ == "__main__":
    run()
