"""What the Python clients share: the ports of the nodes, and waiting for other nodes."""

import os
import time

PORTS = [int(port) for port in os.environ["DRIFTLESS_PORTS"].split(",")]
# Only a failing test waits that long.
SOON = 10


def eventually(look, what):
    """Calls `look` until it returns something true."""
    end = time.monotonic() + SOON
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"still not after {SOON} s: {what}"
        time.sleep(0.01)


def refused(call, what):
    """Checks that a call fails with the reason, and not with another error."""
    try:
        call()
    except Exception as error:
        text = f"{error} {error.__cause__}"
        assert "UNSUPPORTED" in text or "EXECABORT" in text, f"{what}: {text}"
        return
    raise AssertionError(f"{what} must be refused")
