"""The taskloom server: a task graph on SQLite, served over gRPC.

Imports go downward only: main, service, coordinator, store, feed, graph.
"""

__version__ = "0.1.0"
