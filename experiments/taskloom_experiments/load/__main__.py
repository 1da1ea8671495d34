"""``python -m taskloom_experiments.load``: the same as ``taskloom load``."""

import sys

from taskloom_client.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["load"]
    main()
