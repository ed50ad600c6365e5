"""Which arms the real SDKs give to units by flag files of ours, as one digest a flag and stage.

    python flag_arms.py FLAGD_FILE GROWTHBOOK_FILE UNITS [BUCKETS_FILE]

Run it in an environment of its own, which needs none of our code:

    pip install openfeature-provider-flagd==0.6.1 growthbook==4.0.0    # flags of scheme `flagd`
    pip install openfeature-provider-flagd==0.5.0 growthbook==4.0.0    # flags of scheme `flagd-v2`

It prints JSON: for each SDK and flag the SHA-256 of the variants' text (one a line; `-` for not enrolled) and
the counts. BUCKETS_FILE holds, by flag and name, the buckets that a product computes itself, one a unit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections import Counter
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

PACKAGES = (
    "openfeature-provider-flagd",
    "openfeature-flagd-core",
    "openfeature-sdk",
    "mmh3",
    "cbor2",
    "growthbook",
)
NOT_ENROLLED, SHIPPED = "not_enrolled", "shipped_arm"
Buckets = dict[str, dict[str, list[int]]]


def unit(number: int) -> str:
    """The id of a unit: plain, with an accent, or in another script, so that encodings are met."""
    prefix = ("learner", "élève", "生徒")[number % 3] if number % 50 < 3 else "learner"
    return f"{prefix}-{number:06d}"


def own_buckets(buckets: Buckets, flag: str, number: int) -> dict[str, Any]:
    """The attributes with which a product tells its own buckets of a flag; none where it has none."""
    held = buckets.get(flag)
    return {} if held is None else {flag: {name: column[number] for name, column in held.items()}}


def by_flagd(file: Path, units: int, buckets: Buckets) -> dict[str, list[str]]:
    """What each flag gives to each unit, through the provider in its in-process file mode."""
    from openfeature import api
    from openfeature.contrib.provider.flagd import FlagdProvider
    from openfeature.contrib.provider.flagd.config import ResolverType
    from openfeature.evaluation_context import EvaluationContext

    provider = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(file))
    api.set_provider_and_wait(provider)
    client = api.get_client()
    flags = json.loads(file.read_text(encoding="utf-8"))["flags"]
    found = {}
    for flag in flags:
        given = []
        for number in range(units):
            context = EvaluationContext(unit(number), own_buckets(buckets, flag, number))
            details = client.get_string_details(flag, "", context)
            if details.error_code is not None:
                raise SystemExit(f"{flag}, {unit(number)}: {details.error_code} {details.error_message}")
            given.append("-" if details.variant == NOT_ENROLLED else f"{details.variant}={details.value}")
        found[flag] = given
    api.shutdown()
    return found


def by_growthbook(file: Path, units: int, buckets: Buckets) -> dict[str, list[str]]:
    """What each feature gives to each unit; the same texts as those of flagd."""
    from growthbook import GrowthBook

    features = json.loads(file.read_text(encoding="utf-8"))["features"]
    found: dict[str, list[str]] = {}
    for flag in features:
        given = []
        book = GrowthBook(features={flag: features[flag]})
        for number in range(units):
            mine = unit(number)
            book.set_attributes({"id": mine, "class_id": mine, **own_buckets(buckets, flag, number)})
            result = book.eval_feature(flag)
            if result.experimentResult is not None and result.experimentResult.inExperiment:
                given.append(f"{result.value}={result.value}")
            else:
                given.append(f"{SHIPPED}={result.value}" if result.source == "force" else "-")
        found[flag] = given
    return found


def digests(found: dict[str, list[str]]) -> dict[str, Any]:
    """One digest and the counts of each flag."""
    return {
        flag: {
            "digest": hashlib.sha256("\n".join(given).encode()).hexdigest(),
            "counts": dict(sorted(Counter(given).items())),
        }
        for flag, given in found.items()
    }


def main(flagd: str, growthbook: str, units: str, own: str | None = None) -> None:
    """Print what both SDKs say."""
    logging.disable(logging.CRITICAL)
    buckets = {} if own is None else json.loads(Path(own).read_text(encoding="utf-8"))
    installed = {one.metadata["Name"].lower(): one.version for one in distributions()}
    said = {
        "made_by": {name: installed[name] for name in PACKAGES if name in installed},
        "units": int(units),
        "flagd": digests(by_flagd(Path(flagd), int(units), buckets)),
        "growthbook": digests(by_growthbook(Path(growthbook), int(units), buckets)),
    }
    print(json.dumps(said, indent=1, ensure_ascii=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
