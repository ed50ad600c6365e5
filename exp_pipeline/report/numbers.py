"""How is a number written? The one place where a value becomes words, for every form of a readout."""

from __future__ import annotations

import math

from exp_pipeline.model.metrics import Display as Display

MINUS = "\N{MINUS SIGN}"
_LEAST_DECIMALS: dict[str, int] = {
    "share": 1, "number": 0, "ms": 0, "usd": 2, "minutes": 1, "hours": 1, "days": 1,
}  # fmt: skip
_SUFFIX: dict[str, str] = {
    "share": " %", "number": "", "ms": " ms", "usd": "", "minutes": " min", "hours": " h", "days": " days",
}  # fmt: skip
_CHANGE_SUFFIX: dict[str, str] = {**_SUFFIX, "share": " pp"}
_MOST_DECIMALS = 6


def decimal(value: float, decimals: int, signed: bool = False) -> str:
    """How does a plain decimal read: thousands apart, a real minus sign, never a negative zero?

    `signed` puts a plus before positive values. Infinite values read as the infinity sign, NaN as "n/a".
    """
    if math.isnan(value):
        return "n/a"
    if math.isinf(value):
        body, zero = "\N{INFINITY}", False
    else:
        body = f"{abs(value):,.{max(decimals, 0)}f}"
        zero = not body.strip("0.,")
    if zero:
        return body
    if value < 0:
        return MINUS + body
    return "+" + body if signed else body


def decimals_for(display: Display, spread: float | None, *values: float | None) -> int:
    """How many decimals does a group of numbers need so that its spread has two significant digits?

    `spread` is the width of the interval in the metric's own unit (shares as fractions); where it is missing,
    the smallest of `values` that is not zero keeps two significant digits instead.
    """
    factor = 100.0 if display == "share" else 1.0
    yardstick = spread if spread is not None and math.isfinite(spread) and spread > 0 else None
    if yardstick is None:
        sizes = [abs(value) for value in values if value is not None and math.isfinite(value) and value != 0]
        if not sizes:
            return _LEAST_DECIMALS[display]
        yardstick = min(sizes)
    wanted = 1 - math.floor(math.log10(yardstick * factor))
    return min(max(wanted, _LEAST_DECIMALS[display]), _MOST_DECIMALS)


def exact_decimals(display: Display, *values: float | None) -> int:
    """How many decimals does a number that a person chose (a margin, a floor) need to be shown as written?"""
    factor = 100.0 if display == "share" else 1.0
    needed = _LEAST_DECIMALS[display]
    for value in values:
        if value is None or not math.isfinite(value):
            continue
        scaled = value * factor
        while needed < _MOST_DECIMALS and abs(round(scaled, needed) - scaled) > 1e-9 * max(1.0, abs(scaled)):
            needed += 1
    return needed


def level(value: float | None, display: Display, decimals: int) -> str:
    """How does a metric's value read ("45.1 %", "1,260 ms", "$0.12")?"""
    return _with_unit(value, display, decimals, signed=False, suffix=_SUFFIX[display])


def change(value: float | None, display: Display, decimals: int) -> str:
    """How does a difference between arms read ("+10.2 pp", "+80 ms")?"""
    return _with_unit(value, display, decimals, signed=True, suffix=_CHANGE_SUFFIX[display])


def amount(value: float | None, display: Display, decimals: int) -> str:
    """How does a size that has a unit but no sign of its own read (a margin, an MDE: "0.5 pp")?"""
    return _with_unit(value, display, decimals, signed=False, suffix=_CHANGE_SUFFIX[display])


def bare(value: float | None, display: Display, decimals: int) -> str:
    """How does a bound read beside a number that already carries the unit ("5.1")?"""
    return _with_unit(value, display, decimals, signed=False, suffix="")


def interval(lower: float | None, upper: float | None, display: Display, decimals: int) -> str:
    """How does an interval read ("5.1 to 15.2")?"""
    if lower is None or upper is None:
        return "none"
    return f"{bare(lower, display, decimals)} to {bare(upper, display, decimals)}"


def relative(value: float | None, decimals: int = 1) -> str:
    """How does a relative change read ("+22.6 %")?"""
    return "none" if value is None else f"{decimal(100.0 * value, decimals, signed=True)} %"


def relative_interval(lower: float | None, upper: float | None, decimals: int = 1) -> str:
    """How does an interval of a relative change read ("11.0 to 34.1")?"""
    if lower is None or upper is None:
        return "none"
    return f"{decimal(100.0 * lower, decimals)} to {decimal(100.0 * upper, decimals)}"


def percent(value: float | None, decimals: int = 1) -> str:
    """How does a share of a whole read ("50.0 %")?"""
    return "none" if value is None else f"{decimal(100.0 * value, decimals)} %"


def chance(value: float) -> str:
    """How does a probability read, where certainty would be too much said ("98.2 %", "> 99.9 %")?"""
    if value > 0.999:
        return "> 99.9 %"
    return "< 0.1 %" if value < 0.001 else percent(value)


def round_percent(value: float) -> str:
    """How does a level such as 0.95 or 0.999 read, without zeros at its end ("95 %", "99.9 %")?"""
    return f"{100.0 * value:.6g} %"


def p_value(value: float | None) -> str:
    """How does a p-value read: three decimals, smaller ones as a bound?"""
    if value is None or math.isnan(value):
        return "none"
    if value < 0.0001:
        return "< 0.0001"
    if value < 0.001:
        return f"{value:.4f}"
    return "> 0.999" if value > 0.9995 else f"{value:.3f}"


def count(value: int) -> str:
    """How does a number of units or rows read ("12,408")?"""
    return decimal(float(value), 0)


def money(value: float | None, currency: str, signed: bool = False) -> str:
    """How does a sum of money read, to three significant digits ("USD 412,000")?"""
    if value is None:
        return "none"
    if not math.isfinite(value):
        return f"{currency} {decimal(value, 0, signed)}"
    if value == 0:
        return f"{currency} 0"
    magnitude = math.floor(math.log10(abs(value)))
    rounded = round(value, 2 - magnitude)
    text = decimal(abs(rounded), min(max(2 - magnitude, 0), 2))
    if not text.strip("0.,"):
        return f"{currency} 0"
    sign = MINUS if value < 0 else "+" if signed else ""
    return f"{sign}{currency} {text}"


def plain(value: float | int | str) -> str:
    """How does a number of unknown kind read (evidence of a check)?"""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return decimal(float(value), 0)
    if not math.isfinite(value) or value == int(value):
        return decimal(value, 0)
    text = f"{abs(value):,.0f}" if abs(value) >= 1000 else f"{abs(value):.4g}".replace("e-", f"e{MINUS}")
    return (MINUS if value < 0 else "") + text


def _with_unit(value: float | None, display: Display, decimals: int, signed: bool, suffix: str) -> str:
    if value is None:
        return "none"
    scaled = 100.0 * value if display == "share" else value
    text = decimal(scaled, decimals, signed)
    if display == "usd" and text != "n/a":
        mark, digits = (text[0], text[1:]) if text[0] in f"+{MINUS}" else ("", text)
        text = f"{mark}${digits}"
    return text + suffix
