"""The home of taskloom's contract: `from taskloom import v1` brings all of it.

What lies below is generated from the .proto files beside it, but for the two ``__init__.py``.
"""
