"""The sidecar on the client: takes progress from the local socket and brings it to the hub, whatever happens.

Data flows one way: `listener` -> `tracker` (pure) -> `cadence` (pure) -> `outbox` -> `forwarder` -> `hub_link` -> HTTP.
"""
