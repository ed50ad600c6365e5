"""Names that people write and that become keys, paths and columns: one rule for each."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import StringConstraints

SLUG = re.compile(r"^[a-z0-9][a-z0-9-]{0,62}$")
IDENTIFIER = re.compile(r"^[a-z][a-z0-9_]{0,62}$")

# Experiment and arm names become partition keys and folder names: no comma, no bar, no dot, no slash.
Slug = Annotated[str, StringConstraints(pattern=SLUG.pattern)]
# Metric, measure and field names become columns; two underscores in a row are kept for derived columns.
Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z](?:_?[a-z0-9])*$", max_length=63)]
