# Makes every golden_*.json here that comes from R. Run: Rscript goldens.R (needs the packages loaded below).
suppressPackageStartupMessages({
  library(jsonlite); library(clubSandwich); library(sandwich); library(pwr); library(survey); library(metafor)
})
RNGkind("Mersenne-Twister", "Inversion", "Rejection")

tools <- function(...) {
  packages <- c(...)
  c(list(R = as.character(getRversion())),
    setNames(lapply(packages, function(p) as.character(packageVersion(p))), packages))
}
save_golden <- function(name, tool, cases) {
  write_json(list(generator = "goldens.R", tools = tool, cases = cases),
             paste0("golden_", name, ".json"), digits = NA, auto_unbox = TRUE, pretty = FALSE)
}
vec <- function(x) I(as.numeric(x))

# Welch's t, Hedges' g (exact correction), log ratio of means.
set.seed(101)
pairs <- list(
  plain = list(rnorm(40, 5, 2), rnorm(55, 6, 3)),
  tiny = list(c(1.5, 2.25), c(4, 4.5, 7)),
  far = list(rnorm(60, 10, 0.5), rnorm(60, 14, 0.5)),
  large_mean = list(1e8 + rnorm(30), 1e8 + 0.5 + rnorm(30)),
  skewed = list(exp(rnorm(80)), exp(rnorm(70, 0.2))),
  negative = list(rnorm(30, -8, 1), rnorm(30, -7, 1)),
  one_constant = list(rep(3, 12), rnorm(15, 3.4, 1))
)
save_golden("welch", tools("metafor"), lapply(pairs, function(p) {
  fit <- t.test(p[[2]], p[[1]], conf.level = 0.9)
  args <- list(m1i = mean(p[[2]]), sd1i = sd(p[[2]]), n1i = length(p[[2]]),
               m2i = mean(p[[1]]), sd2i = sd(p[[1]]), n2i = length(p[[1]]))
  g <- do.call(escalc, c(list(measure = "SMD"), args))
  rom <- suppressWarnings(do.call(escalc, c(list(measure = "ROM"), args)))
  # metafor's ROM: yi is the plain log ratio, vi the delta-method variance.
  list(control = vec(p[[1]]), treatment = vec(p[[2]]), level = 0.9, absolute = unname(diff(fit$estimate)) * -1,
       se = fit$stderr, df = unname(fit$parameter), p = fit$p.value, ci = vec(fit$conf.int), g = as.numeric(g$yi),
       log_ratio = as.numeric(rom$yi), log_ratio_variance = as.numeric(rom$vi))
}))

# Two proportions: Wilson intervals of prop.test, joined as Newcombe's method 10 says; log risk ratio of metafor.
counts <- list(c(760, 2000, 840, 2000), c(3, 40, 9, 35), c(0, 50, 4, 60), c(56, 70, 48, 80), c(9, 10, 3, 10))
save_golden("proportions", tools("metafor"), lapply(counts, function(k) {
  w1 <- suppressWarnings(prop.test(k[1], k[2], correct = FALSE))$conf.int
  w2 <- suppressWarnings(prop.test(k[3], k[4], correct = FALSE))$conf.int
  a <- k[1] / k[2]; b <- k[3] / k[4]
  rr <- escalc("RR", ai = k[3], n1i = k[4], ci = k[1], n2i = k[2], add = 0, to = "none")
  list(counts = k, ci = vec(c(b - a - sqrt((b - w2[1])^2 + (w1[2] - a)^2), b - a + sqrt((w2[2] - b)^2 + (a - w1[1])^2))),
       log_ratio = if (k[1] > 0) as.numeric(rr$yi) else NULL,
       log_ratio_variance = if (k[1] > 0) as.numeric(rr$vi) else NULL)
}))

# Ratio of totals by arm: survey's linearised standard error, units as clusters of one.
set.seed(102)
ratio_arm <- function(n, rate) {
  d <- 1 + rpois(n, 6); list(numerator = rbinom(n, d, plogis(rnorm(n, qlogis(rate), 0.8))), denominator = d)
}
save_golden("ratios", tools("survey"), lapply(1:3, function(i) {
  arms <- list(control = ratio_arm(40 * i, 0.5), treatment = ratio_arm(30 * i + 10, 0.6))
  est <- lapply(arms, function(a) {
    s <- svyratio(~numerator, ~denominator, svydesign(ids = ~1, weights = ~1, data = data.frame(a)))
    list(value = as.numeric(coef(s)), se = as.numeric(SE(s)))
  })
  list(arms = lapply(arms, function(a) lapply(a, vec)), estimates = est)
}))

# Analysis of covariance by least squares; with arms of one size ours must be exactly this.
set.seed(103)
ancova <- function(n_c, n_t) {
  n <- n_c + n_t; arm <- rep(0:1, c(n_c, n_t)); x1 <- rnorm(n, 50, 10); x2 <- rbinom(n, 1, 0.4)
  y <- 3 + 0.2 * x1 - x2 + 0.7 * arm + rnorm(n, 0, 2)
  fit <- summary(lm(y ~ arm + x1 + x2))$coefficients["arm", ]
  # At the mean covariate of all units, as ours.
  cx <- lm(y ~ arm + I(x1 - mean(x1)) + I(x2 - mean(x2)))
  list(arm = vec(arm), y = vec(y), x1 = vec(x1), x2 = vec(x2), absolute = fit[[1]], se = fit[[2]],
       adjusted_control = as.numeric(coef(cx)[1]))
}
save_golden("ancova", tools(), list(equal = ancova(45, 45), small = ancova(8, 8), unequal = ancova(30, 70)))

# Cluster-robust errors: CR2 with Satterthwaite, and CR1S with t(G - 1).
set.seed(104)
trial <- function(sizes, treated, strata = NULL, covariates = 0, within = FALSE) {
  g <- rep(seq_along(sizes), sizes); n <- length(g)
  arm <- if (within) rbinom(n, 1, 0.5) else treated[g]
  x <- matrix(rnorm(n * covariates, 100, 15), n, covariates)
  y <- 70 + 2 * arm + rnorm(length(sizes), 0, 3)[g] + rnorm(n, 0, 5) + rowSums(x) * 0.2
  d <- data.frame(y = y, arm = arm)
  parts <- "arm"
  if (covariates > 0) { colnames(x) <- paste0("x", 1:covariates); d <- cbind(d, x); parts <- c(parts, colnames(x)) }
  if (!is.null(strata)) { d$s <- factor(strata[g]); parts <- c(parts, "s") }
  fit <- lm(as.formula(paste("y ~", paste(parts, collapse = "+"))), d)
  cr2 <- coef_test(fit, vcov = "CR2", cluster = g, test = "Satterthwaite", coefs = "arm")
  cr1 <- coef_test(fit, vcov = "CR1S", cluster = g, test = "naive-t", coefs = "arm")
  out <- list(y = vec(y), arm = vec(arm), cluster = vec(g), absolute = cr2$beta,
              cr2 = list(se = cr2$SE, df = cr2$df_Satt, p = cr2$p_Satt), cr1 = list(se = cr1$SE, p = cr1$p_t))
  if (covariates > 0) out$covariates <- lapply(1:covariates, function(j) vec(x[, j]))
  if (!is.null(strata)) out$strata <- vec(strata[g])
  out
}
save_golden("clusters", tools("clubSandwich"), list(
  balanced = trial(rep(10, 12), rep(0:1, 6)),
  unbalanced = trial(c(3, 25, 8, 14, 5, 30, 2, 9, 11, 6), c(0, 1, 1, 0, 1, 0, 0, 1, 0, 0)),
  pretest = trial(c(12, 7, 20, 9, 15, 6, 11, 18), rep(0:1, 4), covariates = 2),
  strata = trial(c(9, 6, 12, 7, 10, 8, 5, 11, 6, 13, 7, 9), rep(c(0, 1, 0, 1), 3), strata = rep(1:3, each = 4)),
  pairs = trial(c(9, 6, 12, 7, 10, 8, 5, 11, 6, 13), rep(0:1, 5), strata = rep(1:5, each = 2), covariates = 1),
  few_treated = trial(c(10, 12, 8, 9, 14, 11, 7, 10), c(1, 1, 0, 0, 0, 0, 0, 0)),
  within = trial(rep(8, 15), rep(0, 15), within = TRUE),
  singletons = trial(rep(1, 20), rep(0:1, 10))
))

# One quantile of clustered rows: survey's Woodruff interval ("mean" type) of each arm.
set.seed(105)
save_golden("quantiles", tools("survey"), lapply(c(0.5, 0.9), function(q) {
  unit <- rep(1:150, 1 + rpois(150, 5)); v <- exp(rnorm(150, 7, 0.4)[unit] + rnorm(length(unit), 0, 0.3))
  s <- svyquantile(~v, svydesign(ids = ~unit, weights = ~1, data = data.frame(v, unit)), q,
                   interval.type = "mean", qrule = "hf7", df = 149)
  list(quantile = q, unit = vec(unit), values = vec(v), estimate = as.numeric(coef(s)), ci = vec(confint(s)))
}))

# Sample ratio, corrections for number, power, intraclass correlation.
save_golden("srm", tools(), list(
  chi_square = lapply(list(list(c(1650, 2350), c(1, 1)), list(c(5010, 2480, 2510), c(2, 1, 1)), list(c(9901, 99), c(99, 1))),
    function(k) { f <- chisq.test(k[[1]], p = k[[2]] / sum(k[[2]]))
      list(counts = k[[1]], weights = k[[2]], statistic = unname(f$statistic), p = f$p.value) }),
  binomial = lapply(list(c(1, 7, 0.5), c(0, 8, 0.5), c(2, 40, 0.1), c(3, 16, 0.1)), function(k)
      list(counts = c(k[1], k[2] - k[1]), share = k[3], p = binom.test(k[1], k[2], k[3])$p.value))
))
set.seed(106)
p <- c(runif(6, 0, 0.06), runif(4), 0.01, 0.01)
save_golden("multiplicity", tools(), list(p = vec(p), holm = vec(p.adjust(p, "holm")), bh = vec(p.adjust(p, "BH"))))

save_golden("power", tools("pwr"), list(
  means = lapply(list(c(20, 20, 0.8), c(100, 100, 0.3), c(8, 30, 1.1), c(400, 100, 0.25)), function(k)
    list(n = k[1:2], d = k[3], power = pwr.t2n.test(n1 = k[1], n2 = k[2], d = k[3])$power,
         one_sided = pwr.t2n.test(n1 = k[1], n2 = k[2], d = k[3], alternative = "greater")$power)),
  means_n = lapply(c(0.2, 0.5, 1.2), function(d) list(d = d, n = pwr.t.test(d = d, power = 0.8)$n)),
  means_mde = lapply(c(25, 150), function(n) list(n = n, d = pwr.t.test(n = n, power = 0.9)$d)),
  arcsine_n = lapply(list(c(0.38, 0.40), c(0.1, 0.15)), function(k)
    list(p = k, n = pwr.2p.test(h = ES.h(k[2], k[1]), power = 0.8)$n)),
  arcsine = lapply(list(c(300, 200, 0.1, 0.18), c(50, 50, 0.5, 0.7)), function(k)
    list(n = k[1:2], p = k[3:4], power = pwr.2p2n.test(h = ES.h(k[4], k[3]), n1 = k[1], n2 = k[2])$power)),
  pooled_n = lapply(list(c(0.38, 0.40), c(0.1, 0.15), c(0.5, 0.45)), function(k)
    list(p = k, n = power.prop.test(p1 = k[1], p2 = k[2], power = 0.8, tol = 1e-12)$n)),
  pooled = lapply(list(c(200, 0.3, 0.4), c(1000, 0.1, 0.13)), function(k)
    list(n = k[1], p = k[2:3], power = power.prop.test(n = k[1], p1 = k[2], p2 = k[3])$power))
))
set.seed(107)
save_golden("intraclass", tools(), lapply(list(rep(8, 10), c(3, 20, 7, 11, 2, 15, 9)), function(sizes) {
  g <- rep(seq_along(sizes), sizes); y <- 50 + rnorm(length(sizes), 0, 2)[g] + rnorm(length(g), 0, 4)
  ms <- summary(aov(y ~ factor(g)))[[1]][["Mean Sq"]]; n <- length(g); k <- length(sizes)
  n0 <- (n - sum(sizes^2) / n) / (k - 1)
  list(values = vec(y), cluster = vec(g), between = ms[1], within = ms[2], icc = (ms[1] - ms[2]) / (ms[1] + (n0 - 1) * ms[2]))
}))
