"""The verbs: what can be done to the graph, one function each, one transaction each.

A verb gets a ``Transaction`` and what is asked of it, and returns an answer. It knows rules
and tables, but no proto and no SQL. A refusal is raised, and then nothing has happened; or it
is returned, and then what was written (a count, a sign of life) stays.
"""
