"""What full rollout would be worth."""

from __future__ import annotations

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.metrics import Metric
from exp_pipeline.model.readout import Estimate, Impact


def impact_of(brief: Brief, metric: Metric, estimate: Estimate) -> Impact | None:
    """What is shipping one arm worth? None where the brief names no value or no population.

    (gain in the primary x value of one unit of it - cost) x eligible population; the interval is that of the
    gain. A metric that should fall gains by falling.
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
    return Impact(
        arm=estimate.arm,
        value=worth(estimate.absolute),
        value_lower=known[0] if known else None,
        value_upper=known[-1] if known else None,
        currency=model.currency,
        assumptions=(
            f"The effect measured here holds for all {population:,} eligible units.",
            f"One unit of {metric.title} is worth {model.value_per_unit:,g} {model.currency}.",
            f"Shipping costs {model.cost_per_unit:,g} {model.currency} a unit.",
            "The interval is that of the effect alone; value, cost and population are taken as certain.",
        ),
    )
