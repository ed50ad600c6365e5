"""What is kept of experiments: who was in which arm and saw it, what they did, and what each day says."""

from __future__ import annotations

from exp_pipeline.contracts.published.base import (
    PublishedTable,
    RowRule,
    buckets,
    count,
    day,
    draws,
    flag,
    key64,
    moment,
    number,
    on_its_day,
    text,
)

UNIT_TYPES = ("learner", "class")
ARM_SOURCES = ("logged", "computed")
GUARDRAIL_STATUSES = ("pass", "fail", "underpowered", "cannot_tell")
VERDICTS = ("pass", "warn", "fail", "cannot_tell")
QUALITY_UNITS = ("share", "values", "days")
NOT_JUDGED = ("too_few_rows", "too_little_history", "too_early", "not_configured", "unreadable_totals")
QUALITY_OPENS = ("none", "warn", "page")

_EXPERIMENT = (text("experiment", "Experiment."), count("version", "Version of the experiment.", ge=1))
_UNIT = (
    text("unit_id", "Learner, by pseudonym."),
    key64("unit_key", "First 64 bits of the learner's pseudonym."),
)
_ARM = text("arm", "Arm of the experiment.")
_SOURCE = text("source", "Whether the product logged the arm or the pipeline computed it.", isin=ARM_SOURCES)
_STRATUM = text("stratum", "Stratum or block at assignment.", nullable=True)


_PLACES = (
    text("class_id", "Class at assignment.", nullable=True),
    text("school_id", "School at assignment.", nullable=True),
    text("district_id", "District at assignment.", nullable=True),
)

ASSIGNMENTS = PublishedTable(
    name="assignments",
    grain="One unit and arm of one experiment, as logged on one UTC day.",
    columns=(
        *_EXPERIMENT,
        text("unit_type", "What is randomised.", isin=UNIT_TYPES),
        text("unit_id", "Learner or class, by pseudonym."),
        _ARM,
        day("event_date", "UTC day it was logged."),
        moment("assigned_at", "First time it was logged that day (UTC)."),
        key64("unit_key", "First 64 bits of the learner's pseudonym; null for a class.", nullable=True),
        _STRATUM,
        text("ramp_stage", "Stage of the ramp at assignment.", nullable=True),
        _SOURCE,
        *buckets(),
        *draws(),
        text("role", "Role of the account at assignment."),
        text("platform", "Product surface at assignment."),
        text("app_version", "Version of the client at assignment."),
        text("locale", "Language and region of the interface at assignment.", nullable=True),
        *_PLACES,
        count("n_logged", "How often it was logged that day (events).", ge=1),
    ),
    key=("experiment", "version", "unit_type", "unit_id", "arm", "event_date"),
    rules=(
        on_its_day("assigned_at"),
        RowRule(
            "learners_have_keys",
            "(unit_type = 'learner') = (unit_key IS NOT NULL)",
            "Learners have a 64-bit key, classes have none.",
        ),
    ),
)

EXPOSURES = PublishedTable(
    name="exposures",
    grain="One learner in one arm of one experiment on one surface and UTC day.",
    columns=(
        *_EXPERIMENT,
        *_UNIT,
        _ARM,
        text("surface", "Place in the product where the arm was met."),
        day("event_date", "UTC day of the exposures."),
        moment("first_exposed_at", "First exposure of the day (UTC)."),
        count("exposures", "Exposures of the day (events).", ge=1),
    ),
    key=("experiment", "version", "unit_id", "arm", "surface", "event_date"),
    rules=(on_its_day("first_exposed_at"),),
)

UNITS = PublishedTable(
    name="units",
    grain="One learner in one experiment, in the arm of the first assignment.",
    columns=(
        *_EXPERIMENT,
        *_UNIT,
        _ARM,
        moment("assigned_at", "First assignment, for a class no earlier than the learner joined it (UTC)."),
        day("assigned_date", "UTC day of assigned_at."),
        text("cluster_id", "Class that the learner counts with; null where there is none.", nullable=True),
        _STRATUM,
        flag("contaminated", "Whether the unit was seen in more than one arm."),
        text("role", "Role of the account at assignment."),
        text("platform", "Product surface at assignment; null where the class was assigned.", nullable=True),
        text(
            "app_version",
            "Version of the client at assignment; null where the class was assigned.",
            nullable=True,
        ),
        text(
            "locale", "Language and region at assignment; null where the class was assigned.", nullable=True
        ),
        *_PLACES,
        *buckets(),
        _SOURCE,
    ),
    key=("experiment", "version", "unit_id"),
    rules=(on_its_day("assigned_at", "assigned_date"),),
)

UNIT_DAYS = PublishedTable(
    name="unit_days",
    grain="One learner of one experiment on one active UTC day from assignment on; every measure follows.",
    columns=(*_EXPERIMENT, *_UNIT, day("event_date", "UTC day.")),
    key=("experiment", "version", "unit_id", "event_date"),
)

MAD = PublishedTable(
    name="mad",
    grain="One unit of one experiment in one snapshot; every metric follows.",
    columns=(
        *_EXPERIMENT,
        *_UNIT,
        _ARM,
        moment("assigned_at", "First assignment (UTC)."),
        day("assigned_date", "UTC day of assigned_at."),
        text("cluster_id", "Class that the learner counts with; null where there is none.", nullable=True),
        _STRATUM,
        flag("contaminated", "Whether the unit was seen in more than one arm."),
        flag("exposed", "Whether the unit met the experiment at all."),
        moment("first_exposed_at", "First exposure (UTC); null where there is none.", nullable=True),
        count("exposures", "Exposures up to the end of the snapshot (events)."),
        count("observed_days", "Active UTC days at or after assignment (days)."),
        _SOURCE,
        *buckets(),
        text("segment__platform", "Product surface at assignment.", nullable=True),
        text("segment__locale", "Language and region of the interface at assignment.", nullable=True),
        text("segment__app_version", "Version of the client at assignment.", nullable=True),
        text("segment__school_id", "School at assignment.", nullable=True),
        text("segment__district_id", "District at assignment.", nullable=True),
        text("segment__class_id", "Class at assignment.", nullable=True),
    ),
    key=("experiment", "version", "unit_id"),
    rules=(
        on_its_day("assigned_at", "assigned_date"),
        RowRule(
            "exposed_means_seen",
            "exposed = (exposures > 0) AND exposed = (first_exposed_at IS NOT NULL)",
            "A unit is exposed exactly where it has exposures, and then it has a first one.",
        ),
    ),
)

SRM_DAILY = PublishedTable(
    name="srm_daily",
    grain="One arm of one experiment at the end of one UTC day: units so far against the planned share.",
    columns=(
        *_EXPERIMENT,
        day("event_date", "UTC day whose end is looked at."),
        _ARM,
        count("units", "Units (clusters, where classes are randomised) assigned up to that day."),
        number("planned_share", "Planned share of units (0 to 1).", ge=0.0, le=1.0),
        number(
            "p_value",
            "Chi-square p-value of this one look; null where it cannot be computed.",
            nullable=True,
            ge=0.0,
            le=1.0,
        ),
        number(
            "sequential_p_value",
            "p-value that may be looked at every day; null where there are no units.",
            nullable=True,
            ge=0.0,
            le=1.0,
        ),
    ),
    key=("experiment", "version", "event_date", "arm"),
)

GUARDRAILS_DAILY = PublishedTable(
    name="guardrails_daily",
    grain="One guardrail in one treatment arm at the end of one UTC day.",
    columns=(
        *_EXPERIMENT,
        day("event_date", "UTC day whose end is looked at."),
        text("metric", "Metric that guards."),
        _ARM,
        text("status", "Whether the guardrail holds.", isin=GUARDRAIL_STATUSES),
        number(
            "harm",
            "Estimated harm against control (in the margin's unit); null where it cannot be told.",
            nullable=True,
        ),
        number(
            "harm_bound",
            "One-sided upper bound of the harm (in the margin's unit); null where it cannot be told.",
            nullable=True,
        ),
        number("margin", "Harm that is still accepted (metric's unit, or share of control).", ge=0.0),
        flag("kill_triggered", "Whether the kill rule acts."),
    ),
    key=("experiment", "version", "event_date", "metric", "arm"),
)

DATA_QUALITY = PublishedTable(
    name="data_quality",
    grain="One data quality rule on one subject (the table it looks at) and UTC day.",
    columns=(
        day("event_date", "UTC day that was looked at."),
        text("rule", "Rule."),
        text("subject", "What the rule was asked of."),
        number("value", "What was found (in the rule's unit); null where it cannot be told.", nullable=True),
        number(
            "threshold",
            "Where the rule draws the line (in the rule's unit); null where it has none.",
            nullable=True,
        ),
        text("unit", "Unit of value and threshold.", nullable=True, isin=QUALITY_UNITS),
        count("n_rows", "Rows that the number rests on (rows).", nullable=True),
        text("verdict", "What follows.", isin=VERDICTS),
        text("reason", "Why it cannot be told; null where it can.", nullable=True, isin=NOT_JUDGED),
        text("owner", "Team that the rule belongs to.", nullable=True),
        text("opens", "Incident that the verdict opens.", nullable=True, isin=QUALITY_OPENS),
        text("evidence", "What was seen, in words."),
        text("carriers", "Groups that stray most, worst first, as a JSON list.", nullable=True),
    ),
    key=("event_date", "rule", "subject"),
    rules=(
        RowRule(
            "reason_where_unknown",
            "reason IS NULL OR verdict = 'cannot_tell'",
            "Only what cannot be told has a reason for it.",
        ),
    ),
)
