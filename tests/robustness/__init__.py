"""The robustness suite: a server under load and under attack, and its history checked.

``python -m tests.robustness`` runs it. A run is made of rounds; each has a database, a seed and a
fault schedule of its own, so that a round that failed can be run again by itself. In a round

* ``generator`` is a process of clients: ``agents`` that call (``verbs`` says what), ``watchers``
  that listen, and both record (``recording``) every call and every answer,
* ``faults`` kills, stops and restarts the server (``server_process``), and disturbs the network
  (``relay``) through which they all talk,
* ``truth`` reads, once all is quiet, what became history: a watch from revision 1, and the file,
* ``checker`` replays that history in a ``model``, by the ``rules`` of the workflow files, and holds
  it against what was recorded; each module of ``promises`` checks one kind of promise,
* ``account`` tells of what went wrong: of the task and the worker concerned, and of nothing else.
"""
