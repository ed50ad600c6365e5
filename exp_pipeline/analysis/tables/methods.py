"""Which estimator answers for a unit table of which design, and why: one table."""

from __future__ import annotations

from dataclasses import dataclass

# Fewer units than this for each covariate, and its slope is mostly noise.
UNITS_PER_COVARIATE = 10


@dataclass(frozen=True, slots=True)
class TableMethod:
    """How is an outcome of this design estimated, and why? `why` is one sentence or two."""

    adjusted: bool
    why: str


_OUTCOMES = {
    "mean": "a difference of means",
    "proportion": "a difference of shares",
    "ratio": "a difference of ratios of sums, linearised by unit (delta method)",
    "quantile": "a difference of quantiles, its interval read from the order statistics (Woodruff)",
}
# clusters randomised (or rows of one unit)?, strata?
_DESIGNS: dict[tuple[bool, bool], str] = {
    (False, False): "units were randomised one by one, so each arm has its own variance (Welch)",
    (False, True): (
        "units were randomised within strata, so strata enter as fixed effects with a variance robust to "
        "unequal spread (HC2)"
    ),
    (True, False): (
        "units of one cluster are alike, so the standard error is by cluster "
        "(CR2 with Satterthwaite degrees of freedom when clusters are few, else CR1)"
    ),
    (True, True): (
        "clusters were randomised within strata, so strata enter as fixed effects and the standard error is "
        "by cluster (CR2 with Satterthwaite degrees of freedom when clusters are few, else CR1)"
    ),
}
_PLAIN_SHARE = "units were randomised one by one and count as yes or no, so the interval is Newcombe's"
_QUANTILE = {
    False: "units were randomised one by one, so each row counts for itself",
    True: "rows of one unit or cluster are alike, so the share of rows below varies by unit or cluster",
}
_ADJUSTED = "covariates from before assignment take out variance, with slopes pooled over the arms"


def table_method(estimand: str, *, clustered: bool, stratified: bool, adjusted: bool) -> TableMethod:
    """Which method fits an outcome ("mean", "proportion", "ratio", "quantile") of this design?"""
    design = _DESIGNS[clustered, stratified]
    if estimand == "proportion" and not (clustered or stratified or adjusted):
        design = _PLAIN_SHARE
    if estimand == "quantile":
        design = _QUANTILE[clustered]
    sentences = [f"{_OUTCOMES[estimand].capitalize()}: {design}."]
    if adjusted:
        sentences.append(f"{_ADJUSTED.capitalize()}.")
    return TableMethod(adjusted, " ".join(sentences))
