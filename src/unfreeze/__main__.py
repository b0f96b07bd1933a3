"""``python -m unfreeze`` is the same as ``unfreeze``."""

from unfreeze.cli import main

main()
