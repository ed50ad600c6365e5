"""Numbers as Prometheus text, for the textfile collector of a node exporter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Gauge:
    """One measured quantity: its name, what it says, and its values by labels."""

    name: str
    help: str
    samples: Sequence[Sample] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a gauge, with the labels that tell it from the others."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def prometheus_text(gauges: Sequence[Gauge]) -> str:
    """All gauges in the text exposition format (version 0.0.4), samples in the order of their labels.

    A gauge without samples is left out: it has nothing to say, which is not the same as zero.
    """
    lines = []
    for gauge in gauges:
        if not gauge.samples:
            continue
        lines += [f"# HELP {gauge.name} {_escaped(gauge.help)}", f"# TYPE {gauge.name} gauge"]
        lines += sorted(f"{gauge.name}{_labels(one.labels)} {float(one.value)!r}" for one in gauge.samples)
    return "\n".join(lines) + "\n" if lines else ""


def _labels(labels: Mapping[str, str]) -> str:
    told = ",".join(f'{name}="{_escaped(text, quoted=True)}"' for name, text in sorted(labels.items()))
    return f"{{{told}}}" if told else ""


def _escaped(text: str, *, quoted: bool = False) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if quoted else escaped
