"""The command as a module: `python -m invitree.cli`."""

from invitree.cli import main

if __name__ == "__main__":
    main()
