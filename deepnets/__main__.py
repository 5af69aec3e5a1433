"""`python -m deepnets`."""

from .cli import main

raise SystemExit(main())
