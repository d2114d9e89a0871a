"""`python -m inpaint_core COMMAND`: the same as `inpaint COMMAND`, also where the package is not installed."""

from inpaint_core.cli import program

if __name__ == "__main__":
    program()
