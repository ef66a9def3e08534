"""Whether the Hub can be reached at all, asked before anything waits for it."""

import os
import socket
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies

WAIT = 2.0  # seconds for the name server; who does not answer in time may still be there
OFFLINE = "HF_HUB_OFFLINE"


def hub_has_no_address() -> bool:
    """Whether the name of the Hub's server cannot be resolved, so that trying again helps nothing.

    Without a connection every look at the Hub would be tried six times in half a minute. `False` where it cannot be
    told: behind a proxy, which resolves names itself, and where the name server takes longer than two seconds.
    """
    from huggingface_hub.constants import ENDPOINT  # `HF_ENDPOINT`, or the usual one

    server = urlsplit(ENDPOINT)
    if server.hostname is None or getproxies().get(server.scheme):
        return False
    unknown: list[bool] = []

    def resolve():
        try:
            socket.getaddrinfo(server.hostname, None)
        except socket.gaierror:
            unknown.append(True)

    thread = Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(WAIT)
    return bool(unknown)


def use_the_cache_if_cut_off():
    """Sets `HF_HUB_OFFLINE` for this process where the Hub has no address and nobody has set it.

    To be called before the libraries that load models and data are imported, which read it then. What was downloaded
    before is loaded at once.
    """
    if OFFLINE not in os.environ and "TRANSFORMERS_OFFLINE" not in os.environ and hub_has_no_address():
        os.environ[OFFLINE] = "1"
        # Looking for the Hub's address has imported it.
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = True
