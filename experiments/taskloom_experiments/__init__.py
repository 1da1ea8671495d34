"""Runs fleets of agents against a taskloom server and says, with figures, how well they did.

A definition (``definition``) says what to run and what to measure. A finished run is one
``tasks.db`` with a ``run.json`` beside it; everything from ``database`` to ``compare`` reads those
two and nothing else, so that a run can be analysed again, elsewhere and later.

Nothing is imported here: reading a definition must not cost an import of matplotlib.
"""
