"""Load: how fast the server is and what it needs, as ratios within one run.

``taskloom load`` measures (`make bench`): ``commands`` runs what ``scenarios`` lists. A scenario
has a server process (``serving`` starts ``server``), on a graph of any size (``graphs``), and
processes that call it: load generators (``generators`` starts ``generator``, which carries out
``orders`` by ``operations``), or crowds of agents who wait (``crowd`` starts ``waiting_agents``).
It gives back what it ``Measured``; ``report`` writes that down, with ``charts``, and ``compared``
compares two of them. Times are taken by the monotonic clock, which is one for all processes.

``taskloom soak`` (`make soak`) looks at what grows, not at speed: ``soak`` compares samples of a
server on which ``commotion`` is made, by a process of its own (``commotion_process``).
"""
