"""`python -m hypersiren`: the command."""

from hypersiren.cli.main import main

main()
