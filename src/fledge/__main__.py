"""``python -m fledge`` is the command line."""

from fledge.cli.main import main

main()
