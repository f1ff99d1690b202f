"""`python -m latbench`: the same as the command `latbench`."""

from latbench.cli import main

if __name__ == "__main__":
    main(prog_name="latbench")
