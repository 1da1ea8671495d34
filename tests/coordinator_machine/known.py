"""Where the server is known to be wrong. A name goes with the fix, and what asks for it, too."""

KNOWN = frozenset(
    {
        # A reopened parent whose children have ended completes by itself, unworked, when its
        # not_before passes, its pause ends, or it is moved out of a paused subtree.
        "time and resume roll up",
        # What a worker whose stream broke is assigned, or given as it waits, has the end of its
        # grace for the end of its lease, even when that is past, and the alarm does not know.
        "what is given within a grace",
        # Who waits below a task is given nothing that is moved there, and not told when the last
        # open task is moved away.
        "who waits below a task does not see what is moved",
    }
)
