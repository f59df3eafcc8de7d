"""``python -m unmasked``: the command ``unmasked``."""

from unmasked.app.cli import main

main()
