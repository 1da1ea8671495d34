"""Load: how fast the server is and what it needs, as ratios within one run.

``python -m taskloom_experiments.load`` measures (`make bench`). A scenario (``wakeup``, ``idle``,
``leases``, ``snapshots``) has a server process (``serving`` starts ``server``), and crowds of
agents, processes too (``crowd`` starts ``waiting_agents``), and gives back what it ``Measured``;
``report`` writes it down. Times are taken by the monotonic clock, which is one for all processes on
Linux.
"""
