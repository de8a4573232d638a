"""Crash states: every one of a server's stores in process, and the telling ones on the server."""

from faultinject.crash.crashes import harness

__all__ = ["harness"]
