"""Readable names for workers and tasks that come without one."""

import random
import re

_ADJECTIVES = """
amber able bold brave brisk bright calm clear clever cosmic crisp deft eager early fair fleet
fresh gentle glad golden grand green happy hardy keen kind light lively lucid lunar mellow merry
mild nimble noble olive pale plain proud quick quiet rapid ready rosy royal sharp silver sleek
smart solar solid spry stark still sunny swift tidy vivid warm wise
""".split()  # noqa: SIM905  a list of words reads better without a hundred quotes
_ANIMALS = """
ant auk bear bee bison boar cat cod crab crane crow deer dove duck eagle eel elk emu ewe finch
fox frog gnu goat goose gull hare hawk heron ibex ibis jay kite koala lark lemur lion lynx mole
moose moth mouse newt okapi orca otter owl panda pike puma quail raven robin seal shark shrew
sloth snail stork swan swift tapir tern tiger toad trout vole wasp whale wolf wren yak zebra
""".split()  # noqa: SIM905
_LETTERS = "23456789abcdefghjkmnpqrstvwxyz"  # no look-alikes


def worker_name(rng: random.Random) -> str:
    """Such as ``brisk-otter-41``; some 400,000 of them."""
    return f"{rng.choice(_ADJECTIVES)}-{rng.choice(_ANIMALS)}-{rng.randrange(10, 100)}"


def task_name(title: str, rng: random.Random) -> str:
    """The first words of the title and five letters: ``parse-the-style-7k2mq``."""
    words = re.findall(r"[a-z0-9]+", title.lower())
    slug = ""
    for word in words[:4]:
        if len(slug) + len(word) > 24:
            break
        slug = f"{slug}{word}-"
    return (slug or "task-") + "".join(rng.choices(_LETTERS, k=5))
