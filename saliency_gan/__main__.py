"""`python -m saliency_gan` is the command `saliency-gan`."""

import sys

from saliency_gan.cli.main import main

sys.exit(main())
