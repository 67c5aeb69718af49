"""What the hub and the sidecar share: the wire contract, settings, logging, the life of a service.

It imports neither daemon. The version of the whole distribution stands here and nowhere else.
"""

__version__ = "0.1.0"
