"""What all errors of this package have in common: their text is one sentence for a person."""


class ExperimentError(Exception):
    """Something asked for cannot be done; the text is one sentence that says why and what to do.

    A command line catches this one class, prints the text, and ends.
    """
