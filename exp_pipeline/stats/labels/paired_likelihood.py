"""The likelihood of comparisons of two, with ties: value, slopes, curvature, and whether it has a top."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MOST_STEPS = 200
# Newton's decrement at which the log-likelihood is known beyond double precision.
_CONVERGED = 1e-20
# A step of the linear programme below this is rounding, above it a direction without bound.
_BOUNDLESS = 1e-7


def boundless(slopes: FloatArray, score: FloatArray, has_tie: bool, skip: int) -> bool:
    """Is there a direction along which the likelihood never falls? Then it has no (single) maximum.

    Along a direction d, a row's likelihood never falls iff: first won, d_eta >= t; second won, -d_eta >= t;
    tie, t >= |d_eta|, with t the tie parameter's share (twice d log nu, or d log theta; 0 without ties).
    The first `skip` columns are held by the ridge.
    """
    from scipy import optimize

    rows = np.unique(np.column_stack([slopes, score]), axis=0)
    eta, score = rows[:, skip:-1], rows[:, -1]
    if eta.shape[1] + has_tie == 0:
        return False
    tie = np.column_stack([eta, np.ones(len(eta))]) if has_tie else eta
    sign = np.where(score == 1.0, 1.0, -1.0)[:, None]
    decided, tied = score != 0.5, score == 0.5
    held = np.column_stack([sign * eta, -np.ones(len(eta))]) if has_tie else sign * eta
    both = [tie[tied], np.column_stack([-eta, np.ones(len(eta))])[tied] if has_tie else -eta[tied]]
    slack = np.vstack([held[decided], *both])
    if np.linalg.matrix_rank(slack) < slack.shape[1]:
        return True
    best = optimize.linprog(-slack.sum(axis=0), A_ub=-slack, b_ub=np.zeros(len(slack)), bounds=(-1.0, 1.0))
    return bool(-best.fun > _BOUNDLESS)


def log_likelihood(
    point: FloatArray,
    slopes: FloatArray,
    score: FloatArray,
    seen: FloatArray,
    model: str,
    has_tie: bool,
) -> tuple[float, FloatArray, FloatArray]:
    """Log-likelihood, its gradient by row (n, p) and the information (p, p) without the ridge."""
    eta = slopes @ point[: slopes.shape[1]]
    if model == "rao-kupper":
        return _rao_kupper(eta, float(point[-1]), slopes, score, seen)
    # Davidson; without ties nu = 0, and a tie counted as half a win fits the same two terms.
    tie = float(point[-1]) if has_tie else -math.inf
    logs = np.column_stack([eta / 2.0, -eta / 2.0, np.full(eta.size, tie)])
    top = logs.max(axis=1, keepdims=True)
    norm = top[:, 0] + np.log(np.exp(logs - top).sum(axis=1))
    chance = np.exp(logs - norm[:, None])
    tied = (score == 0.5).astype(np.float64) if has_tie else np.zeros(eta.size)
    decided = np.where(tied == 1.0, 0.0, score - 0.5)
    value = float(seen @ (decided * eta + (tied * tie if has_tie else 0.0) - norm))
    gap = chance[:, 0] - chance[:, 1]
    by_eta = decided - gap / 2.0
    second_eta = (chance[:, 0] + chance[:, 1] - gap**2) / 4.0
    if not has_tie:
        return value, slopes * by_eta[:, None], _weighted(slopes, seen * second_eta, slopes)
    by_tie = tied - chance[:, 2]
    cross = -gap * chance[:, 2] / 2.0
    second_tie = chance[:, 2] * (1.0 - chance[:, 2])
    return (
        value,
        np.column_stack([slopes * by_eta[:, None], by_tie]),
        _bordered(slopes, seen, second_eta, cross, second_tie),
    )


def _rao_kupper(
    eta: FloatArray, threshold: float, slopes: FloatArray, score: FloatArray, seen: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """Thresholds at +-log theta: P(first) = s(eta - t), P(second) = s(-eta - t)."""
    from scipy import special

    up, down = special.expit(eta - threshold), special.expit(-eta - threshold)
    won, lost = score == 1.0, score == 0.0
    # log P(tie) = log(e^(2t) - 1) - log(e^t + e^eta) - log(e^t + e^-eta).
    log_tie = np.log(np.expm1(2.0 * threshold)) - 2.0 * threshold
    log_tie = log_tie + special.log_expit(threshold - eta) + special.log_expit(threshold + eta)
    logs = np.where(
        won, special.log_expit(eta - threshold), np.where(lost, special.log_expit(-eta - threshold), log_tie)
    )
    by_eta = np.where(won, 1.0 - up, np.where(lost, -(1.0 - down), down - up))
    grow = 2.0 / np.expm1(2.0 * threshold)
    by_tie = np.where(won, -(1.0 - up), np.where(lost, -(1.0 - down), grow + up + down))
    # Minus second derivatives.
    curve_up, curve_down = up * (1.0 - up), down * (1.0 - down)
    minus_eta = np.where(won, curve_up, np.where(lost, curve_down, curve_up + curve_down))
    cross = np.where(won, -curve_up, np.where(lost, curve_down, curve_down - curve_up))
    shrink = grow * (grow + 2.0)
    minus_tie = np.where(won, curve_up, np.where(lost, curve_down, shrink + curve_up + curve_down))
    return (
        float(seen @ logs),
        np.column_stack([slopes * by_eta[:, None], by_tie]),
        _bordered(slopes, seen, minus_eta, cross, minus_tie),
    )


def _weighted(a: FloatArray, weight: FloatArray, b: FloatArray) -> FloatArray:
    product: FloatArray = a.T @ (b * weight[:, None])
    return product


def _bordered(
    slopes: FloatArray, seen: FloatArray, eta: FloatArray, cross: FloatArray, tie: FloatArray
) -> FloatArray:
    edge = slopes.T @ (seen * cross)
    return np.block([[_weighted(slopes, seen * eta, slopes), edge[:, None]], [edge[None, :], seen @ tie]])


def maximise(
    slopes: FloatArray, score: FloatArray, seen: FloatArray, penalty: FloatArray, model: str, has_tie: bool
) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """Where is the penalised log-likelihood highest? Newton's steps, halved where they overshoot.

    Point (p,), gradient by row (n, p), information (p, p) with the ridge; None if it did not settle.
    """
    point = np.zeros(penalty.size)
    if has_tie and model == "rao-kupper":
        point[-1] = 0.5

    def at(where: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        value, by_row, information = log_likelihood(where, slopes, score, seen, model, has_tie)
        return value - 0.5 * float(penalty @ where**2), by_row, information + np.diag(penalty)

    value, by_row, information = at(point)
    for _ in range(MOST_STEPS):
        gradient = seen @ by_row - penalty * point
        step = np.linalg.solve(information, gradient)
        decrement = float(gradient @ step)
        if decrement <= _CONVERGED * max(1.0, abs(value)):
            return point, by_row, information
        length = 1.0
        while has_tie and model == "rao-kupper" and point[-1] + length * step[-1] <= 0.0:
            length /= 2.0
        new = at(point + length * step)
        # Near the top the gain drowns in rounding: a full Newton step is then right by itself.
        while (
            new[0] < value + 1e-4 * length * decrement and decrement > 1e-12 * abs(value) and length > 1e-12
        ):
            length /= 2.0
            new = at(point + length * step)
        point = point + length * step
        value, by_row, information = new
    return None
