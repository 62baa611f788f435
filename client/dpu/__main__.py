"""`python -m dpu` is `awe`."""

import sys

from dpu.prompt import main

sys.exit(main())
