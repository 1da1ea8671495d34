"""The gRPC services: check, call one verb, translate the answer, return.

It knows protos and verbs, no rule and no table.
"""
