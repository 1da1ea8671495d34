"""``python -m taskloom_client`` is the command ``taskloom``."""

from taskloom_client.cli import main

if __name__ == "__main__":
    main()
