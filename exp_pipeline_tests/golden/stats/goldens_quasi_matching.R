# Makes golden_quasi_matching.json. Run: Rscript goldens_quasi_matching.R
# Effects are Matching's. Of MatchIt 4.5.1 only the balance of its own weights is taken: with replacement it does
# not choose the nearest controls here (asked for three it names one of them three times).
suppressPackageStartupMessages({ library(jsonlite); library(MatchIt); library(Matching) })
RNGkind("Mersenne-Twister", "Inversion", "Rejection")
vec <- function(x) I(as.numeric(x))
pooled <- function(l, t) sqrt((var(l[t == 1]) + var(l[t == 0])) / 2)
one <- function(d, covs, k, sds, estimand) {
  f <- as.formula(paste("t ~", paste(covs, collapse = " + ")))
  fit <- glm(f, binomial, d, control = glm.control(epsilon = 1e-14, maxit = 100))
  l <- fit$linear.predictors
  cal <- if (is.null(sds)) NULL else sds * pooled(l, d$t)
  # Matching counts calipers in standard deviations of all units.
  m <- Match(d$y, d$t, l, estimand = estimand, M = k, replace = TRUE, ties = TRUE, Weight = 1, Var.calc = 1,
             caliper = if (is.null(cal)) NULL else cal / sd(l), distance.tolerance = 1e-14, version = "standard")
  out <- list(k = k, caliper = sds, estimand = estimand, effect = as.numeric(m$est), se = m$se, logits = vec(l),
              coefficients = vec(coef(fit)))
  if (estimand == "ATT") {
    mi <- matchit(f, d, method = "nearest", distance = l, replace = TRUE, ratio = k, caliper = cal, std.caliper = FALSE)
    s <- summary(mi, standardize = TRUE)
    w <- mi$weights
    out$weights <- vec(w)
    out$before <- s$sum.all[covs, c("Std. Mean Diff.", "Var. Ratio")]
    out$after <- s$sum.matched[covs, c("Std. Mean Diff.", "Var. Ratio")]
  }
  out
}
set.seed(77)
n <- 240
d <- data.frame(x1 = rnorm(n), x2 = rnorm(n, 50, 9), x3 = rbinom(n, 1, 0.4))
d$t <- rbinom(n, 1, plogis(-1 + 0.7 * d$x1 + 0.04 * (d$x2 - 50) + 0.5 * d$x3))
d$y <- 3 + d$x1 + 0.1 * d$x2 + d$x3 + 1.5 * d$t + rnorm(n)
covs <- c("x1", "x2", "x3")
data(lalonde, package = "MatchIt")
l <- with(lalonde, data.frame(t = treat, y = re78, age, educ, black = as.integer(race == "black"),
  hispan = as.integer(race == "hispan"), married, nodegree, re74, re75))
lcov <- setdiff(names(l), c("t", "y"))
pack <- function(d, covs) list(y = vec(d$y), treated = vec(d$t), covariates = lapply(d[covs], vec), names = covs)
write_json(list(generator = "goldens_quasi_matching.R",
  tools = list(R = as.character(getRversion()), MatchIt = as.character(packageVersion("MatchIt")),
               Matching = as.character(packageVersion("Matching"))),
  cases = list(
    plain = c(pack(d, covs), list(fits = list(one(d, covs, 1, NULL, "ATT"), one(d, covs, 1, 0.2, "ATT"),
      one(d, covs, 3, NULL, "ATT"), one(d, covs, 1, NULL, "ATE"), one(d, covs, 2, NULL, "ATE")))),
    lalonde = c(pack(l, lcov), list(fits = list(one(l, lcov, 1, NULL, "ATT"), one(l, lcov, 1, NULL, "ATE")))))),
  "golden_quasi_matching.json", digits = NA, auto_unbox = TRUE, null = "null", na = "null")
