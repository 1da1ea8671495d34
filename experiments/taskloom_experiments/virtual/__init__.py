"""The simulation: agents and coordinator as they are, in one thread, on a clock that leaps.

``loop`` is the event loop whose time passes only when nothing else is to be done, ``transport``
what stands in for gRPC, ``costs`` what a call costs in it, and ``run`` makes a run of all that.
"""
