"""The rules of the graph: states, readiness, admission, cycles, events, errors.

Standard library only. Nothing here knows a clock, a database or a proto, so that a
property test can try a million cases.
"""
