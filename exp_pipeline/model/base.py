"""The base of everything that is parsed from people or stored for them."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict

from exp_pipeline.model.digests import digest_of


class Noun(BaseModel):
    """A frozen noun: refuses unknown fields, serialises the same way every time."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, ser_json_inf_nan="strings")

    def canonical_json(self) -> str:
        """The one JSON text of this noun: keys sorted, no white space; equal nouns have equal digests."""
        return json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, as 64 hex digits."""
        return digest_of(self.model_dump(mode="json"))
