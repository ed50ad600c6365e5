"""Likelihood of a linear mixed model, and how sharply it knows its variances, from sums by cluster."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MixedSums:
    """What must be known of the rows? G clusters, p fixed columns, q random ones, outcome last.

    whole: (p + 1, p + 1) products of [X y]. inner: (G, q, q) of Z. crossed: (G, q, p + 1) of Z with [X y].
    """

    whole: FloatArray
    inner: FloatArray
    crossed: FloatArray
    n: int

    @classmethod
    def of(
        cls, columns: FloatArray, values: FloatArray, inner: FloatArray, starts: NDArray[np.int64]
    ) -> MixedSums:
        """Which sums have these rows, sorted by cluster? columns (n, p), values (n,), inner (n, q)."""
        both = np.column_stack([columns, values])
        z = np.einsum("ni,nj->nij", inner, inner)
        zx = np.einsum("ni,nj->nij", inner, both)
        return cls(
            both.T @ both,
            np.add.reduceat(z, starts, axis=0),
            np.add.reduceat(zx, starts, axis=0),
            both.shape[0],
        )

    @property
    def p(self) -> int:
        return int(self.whole.shape[0]) - 1

    @property
    def q(self) -> int:
        return int(self.inner.shape[1])

    def criterion(self, root: FloatArray) -> float | None:
        """Minus twice the restricted log likelihood but for a constant, at a relative root (q, q).

        Bates, Maechler, Bolker and Walker (2015, equation 42). None where nothing is left to explain.
        """
        lower = np.linalg.cholesky(root.T @ self.inner @ root + np.eye(self.q))
        part = np.linalg.solve(lower, root.T @ self.crossed)
        left = self.whole - np.einsum("gqi,gqj->ij", part, part)
        try:
            chol = np.linalg.cholesky(left[:-1, :-1])
        except np.linalg.LinAlgError:
            return None
        half = np.linalg.solve(chol, left[:-1, -1])
        rss = float(left[-1, -1] - half @ half)
        if rss <= 1e-13 * float(self.whole[-1, -1]):
            return None
        df = self.n - self.p
        log_det = 2.0 * float(np.log(np.einsum("gqq->gq", lower)).sum() + np.log(np.diag(chol)).sum())
        return log_det + df * (1.0 + math.log(2.0 * math.pi * rss / df))


@dataclass(frozen=True, slots=True, eq=False)
class Curvature:
    """What do the coefficients owe to each variance? m = 1 + q (q + 1) / 2 variances, that within first.

    phi: (p, p) covariance of the coefficients beta. first: X'V^-1 dV_i V^-1 X. second: the same with two
    derivatives. expected and observed: (m, m) restricted information. interior: which of the others are not
    at the edge of their range.
    """

    beta: FloatArray
    within: float
    phi: FloatArray
    first: list[FloatArray]
    second: list[list[FloatArray]]
    expected: FloatArray
    observed: FloatArray
    interior: NDArray[np.bool_]


def curvature(sums: MixedSums, root: FloatArray) -> Curvature:
    """How much do the variances at `root` matter to the coefficients, and how well are they known?

    All from V^-1 = (I - Z D Z') / within by cluster, with (I - Z D Z')^k = I - Z C_k Z'.
    """
    p, q = sums.p, sums.q
    relative = root @ root.T
    d = np.linalg.solve(np.eye(q) + relative @ sums.inner, np.broadcast_to(relative, sums.inner.shape))
    powers = [d]
    for _ in range(2):
        powers.append(powers[-1] + d - powers[-1] @ sums.inner @ d)
    # [X e]' V^-k [X e] needs e = y - X beta, so first beta.
    first_power = sums.whole - np.einsum("gqi,gqr,grj->ij", sums.crossed, powers[0], sums.crossed)
    beta = np.linalg.solve(first_power[:p, :p], first_power[:p, p])
    turn = np.eye(p + 1)
    turn[:p, p] = -beta
    whole, crossed = turn.T @ sums.whole @ turn, sums.crossed @ turn
    rows = [whole - np.einsum("gqi,gqr,grj->ij", crossed, c, crossed) for c in powers]
    within = float(rows[0][p, p]) / (sums.n - p)
    inverse = [row / within ** (k + 1) for k, row in enumerate(rows)]
    # Z'V^-k [X e] and Z'V^-k Z by cluster.
    lean = [(crossed - sums.inner @ c @ crossed) / within ** (k + 1) for k, c in enumerate(powers)]
    own = [(sums.inner - sums.inner @ c @ sums.inner) / within ** (k + 1) for k, c in enumerate(powers)]
    traces = float(sums.n - np.einsum("gqr,grq->", powers[1], sums.inner)) / within**2
    shapes = _directions(q)
    m = 1 + len(shapes)
    first: list[FloatArray] = [inverse[1]]
    first += [np.einsum("gqi,qr,grj->ij", lean[0], e, lean[0]) for e in shapes]
    second: list[list[FloatArray]] = [[np.zeros((p + 1, p + 1)) for _ in range(m)] for _ in range(m)]
    log_traces = np.zeros((m, m))
    second[0][0], log_traces[0, 0] = inverse[2], traces
    for i, e in enumerate(shapes, start=1):
        second[i][0] = np.einsum("gqi,qr,grj->ij", lean[0], e, lean[1])
        second[0][i] = second[i][0].T
        log_traces[0, i] = log_traces[i, 0] = float(np.einsum("qr,grq->", e, own[1]))
        for j, f in enumerate(shapes, start=1):
            second[i][j] = np.einsum("gqi,qr,grs,st,gtj->ij", lean[0], e, own[0], f, lean[0])
            log_traces[i, j] = float(np.einsum("gqr,rs,gst,tq->", own[0], e, own[0], f))
    phi = np.linalg.inv(inverse[0][:p, :p])
    expected, observed = np.zeros((m, m)), np.zeros((m, m))
    for i in range(m):
        for j in range(m):
            a, b = first[i][:p, :p], first[j][:p, :p]
            trace = log_traces[i, j] - 2.0 * float(np.trace(phi @ second[i][j][:p, :p]))
            trace += float(np.trace(phi @ a @ phi @ b))
            square = float(second[i][j][p, p] - first[i][:p, p] @ phi @ first[j][:p, p])
            expected[i, j] = trace / 2.0
            observed[i, j] = square - trace / 2.0
    diagonal = np.diag(relative)
    inside = {1: [diagonal[0] > 0.0]}.get(q)
    if inside is None:
        free = bool(np.linalg.det(relative) > 1e-12 * max(float(diagonal.prod()), 1e-300)) and bool(
            (diagonal > 0.0).all()
        )
        inside = [bool(diagonal[0] > 0.0), free, free]
    return Curvature(
        beta=beta,
        within=within,
        phi=phi,
        first=[part[:p, :p] for part in first],
        second=[[part[:p, :p] for part in row] for row in second],
        expected=(expected + expected.T) / 2.0,
        observed=(observed + observed.T) / 2.0,
        interior=np.array(inside, dtype=np.bool_),
    )


def _directions(q: int) -> list[FloatArray]:
    """How does V move with each entry of the clusters' covariance?"""
    found = []
    for i in range(q):
        for j in range(i + 1):
            e = np.zeros((q, q))
            e[i, j] = e[j, i] = 1.0
            found.append(e)
    return found
