"""`python -m deadrelu` is `deadrelu`."""

from deadrelu.cli.app import main

if __name__ == "__main__":
    main()
