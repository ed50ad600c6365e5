"""What full rollout would be worth: expected value, chance of a gain, cost of being wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from exp_pipeline.analysis.deciding.cost_per_outcome import CostPerOutcome, cost_per_outcome
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.metrics import Metric
from exp_pipeline.model.readout import Estimate, Impact
from exp_pipeline.stats.reference import upper_tail
from exp_pipeline.stats.results import NotEstimable


@dataclass(frozen=True, slots=True)
class Worth:
    """What is a decision worth when the effect is known up to a normal error?

    All in money. loss_*: what the wrong decision costs on average, were the arm shipped, or not shipped.
    """

    value: float
    probability_positive: float
    loss_if_shipped: float
    loss_if_not_shipped: float


def worth_of(value: float, sd: float) -> Worth:
    """What follows from an expected value and its standard deviation? Prior: every value equally likely.

    The loss of a decision is the mean of what the other one would have brought more, over the draws in which
    it would have: for a normal, sd phi(z) + value Phi(z) for not shipping, and that less the value for
    shipping (z = value / sd).
    """
    if not sd > 0.0:
        return Worth(value, float(value > 0.0), max(-value, 0.0), max(value, 0.0))
    z = value / sd
    positive = upper_tail(-z, math.inf)
    density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    # Far out one of the two is a difference of nearly equal numbers.
    missed = max(sd * density + value * positive, 0.0)
    wasted = max(sd * density - value * upper_tail(z, math.inf), 0.0)
    return Worth(value, positive, wasted, missed)


def impact_of(
    brief: Brief,
    metric: Metric,
    estimate: Estimate,
    metrics: Mapping[str, MetricUnits] | None = None,
    *,
    clustered: bool = False,
) -> Impact | None:
    """What is shipping one arm worth? None where the brief names no value or no population.

    (gain in the primary x value of one unit of it - cost) x eligible population; the interval is that of the
    gain. A metric that should fall gains by falling. metrics: the units of the readout's metrics; where one
    of them is money, the extra cost of one more outcome stands beside (see `cost_per_outcome`).
    """
    model = brief.value
    if not model.eligible_population or not (model.value_per_unit or model.cost_per_unit):
        return None
    sign = 1.0 if metric.direction == "increase" else -1.0
    population = model.eligible_population

    def worth(effect: float | None) -> float | None:
        if effect is None:
            return None
        return population * (sign * effect * model.value_per_unit - model.cost_per_unit)

    bounds = [worth(estimate.ci_lower), worth(estimate.ci_upper)]
    known = sorted(bound for bound in bounds if bound is not None)
    value = worth(estimate.absolute)
    odds = None
    if value is not None and estimate.se is not None:
        odds = worth_of(value, population * abs(model.value_per_unit) * estimate.se)
    cost = None
    if metrics is not None:
        cost = cost_per_outcome(brief, metrics, estimate.arm, clustered=clustered, level=estimate.level)
    gain = None
    if estimate.absolute is not None and metric.estimand in ("mean", "proportion"):
        gain = sign * estimate.absolute * population / metric.per
    told = Impact(
        arm=estimate.arm,
        value=value,
        value_lower=known[0] if known else None,
        value_upper=known[-1] if known else None,
        currency=model.currency,
        probability_positive=None if odds is None else odds.probability_positive,
        loss_if_shipped=None if odds is None else odds.loss_if_shipped,
        loss_if_not_shipped=None if odds is None else odds.loss_if_not_shipped,
        outcomes=gain,
        assumptions=(
            f"The effect measured here holds for all {population:,} eligible units.",
            f"One unit of {metric.title} is worth {model.value_per_unit:,g} {model.currency}.",
            f"Shipping costs {model.cost_per_unit:,g} {model.currency} a unit.",
            "The interval is that of the effect alone; value, cost and population are taken as certain.",
            "Chance and losses take every size of effect as equally likely before the data, and its error as "
            "normal.",
            *_of_cost(cost, metrics),
        ),
    )
    return told.model_copy(update=_cost(cost))


def _cost(found: CostPerOutcome | NotEstimable | None) -> dict[str, object]:
    if found is None:
        return {}
    if isinstance(found, NotEstimable):
        return {"cost_reason": found.reason}
    return {
        "cost_metric": found.metric,
        "cost_per_outcome": found.ratio,
        "cost_per_outcome_lower": found.lower,
        "cost_per_outcome_upper": found.upper,
        "cost_interval": found.kind,
        "cost_reason": found.reason,
    }


def _of_cost(
    found: CostPerOutcome | NotEstimable | None, metrics: Mapping[str, MetricUnits] | None
) -> tuple[str, ...]:
    if not isinstance(found, CostPerOutcome) or metrics is None:
        return ()
    title = metrics[found.metric].metric.title
    return (
        f"Cost per outcome: what {title} counts as cost, a unit, over the gain in the primary a unit; the "
        f"{found.n_control + found.n_treatment:,} units that have both; Fieller's interval.",
    )
