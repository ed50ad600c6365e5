# Makes golden_strata, golden_lin, golden_compliance, golden_counts, golden_paired .json. Run: Rscript goldens_estimation.R
suppressPackageStartupMessages({
  library(jsonlite); library(estimatr); library(AER); library(sandwich); library(clubSandwich)
})
RNGkind("Mersenne-Twister", "Inversion", "Rejection")
tools <- function(...) {
  packages <- c(...)
  c(list(R = as.character(getRversion())),
    setNames(lapply(packages, function(p) as.character(packageVersion(p))), packages))
}
save_golden <- function(name, tool, cases) {
  write_json(list(generator = "goldens_estimation.R", tools = tool, cases = cases),
             paste0("golden_", name, ".json"), digits = NA, auto_unbox = TRUE, pretty = FALSE)
}
vec <- function(x) I(as.numeric(x))

# Strata: fixed effects with HC2, blocked difference in means.
set.seed(201)
blocked <- function(sizes, treated, covariate = FALSE) {
  s <- rep(seq_along(sizes), sizes)
  arm <- unlist(lapply(seq_along(sizes), function(i) sample(rep(0:1, c(sizes[i] - treated[i], treated[i])))))
  n <- length(s); x <- rnorm(n, 50, 10)
  y <- 10 + 3 * s + (1 + 0.5 * s) * arm + rnorm(n, 0, 2 + arm) + 0.1 * x
  d <- data.frame(y, arm, s = factor(s), x)
  f <- if (covariate) y ~ arm + x else y ~ arm
  fe <- lm_robust(f, d, fixed_effects = ~s, se_type = "HC2")
  out <- list(y = vec(y), arm = vec(arm), strata = vec(s), x = vec(x),
              fe = list(absolute = fe$coefficients[["arm"]], se = fe$std.error[["arm"]], df = fe$df[["arm"]]))
  if (!covariate) {
    dim <- difference_in_means(y ~ arm, d, blocks = s)
    out$dim <- list(absolute = dim$coefficients[[1]], se = dim$std.error[[1]], df = dim$df[[1]], design = dim$design)
    # A regression with constants by stratum gives Bell-McCaffrey degrees of freedom with every row a cluster.
    bm <- coef_test(lm(y ~ arm + s, d), vcov = "CR2", cluster = 1:n, test = "Satterthwaite", coefs = "arm")
    out$bm_df <- bm$df_Satt
  }
  out
}
save_golden("strata", tools("estimatr", "clubSandwich"), list(
  equal_shares = blocked(c(20, 30, 16, 44), c(10, 15, 8, 22)),
  unequal_shares = blocked(c(30, 40, 25), c(6, 20, 18)),
  pairs = blocked(rep(2, 14), rep(1, 14)),
  small = blocked(c(4, 5, 7), c(2, 2, 4)),
  covariate = blocked(c(20, 30, 16, 44), c(8, 15, 8, 20), covariate = TRUE)
))

# Lin's interacted adjustment, and the two separate regressions that it is.
set.seed(202)
lin <- function(n_c, n_t, k) {
  n <- n_c + n_t; arm <- rep(0:1, c(n_c, n_t)); x <- matrix(rnorm(n * k, 5, 2), n, k)
  colnames(x) <- paste0("x", 1:k)
  y <- 3 + x %*% seq_len(k) + arm * (1 + 0.6 * x[, 1]) + rnorm(n, 0, 1 + arm)
  d <- data.frame(y = as.numeric(y), arm, x)
  rhs <- as.formula(paste("~", paste(colnames(x), collapse = "+")))
  fit <- lm_lin(y ~ arm, covariates = rhs, data = d, se_type = "HC2")
  at <- as.data.frame(t(colMeans(x)))
  one <- function(a) predict(lm(update(rhs, y ~ .), d[d$arm == a, ]), at, se.fit = TRUE)
  list(y = vec(y), arm = vec(arm), x = lapply(1:k, function(j) vec(x[, j])), absolute = fit$coefficients[["arm"]],
       hc2 = fit$std.error[["arm"]], control = as.numeric(one(0)$fit), treatment = as.numeric(one(1)$fit),
       separate = sqrt(as.numeric(one(0)$se.fit)^2 + as.numeric(one(1)$se.fit)^2))
}
save_golden("lin", tools("estimatr"), list(one = lin(60, 90, 1), three = lin(150, 100, 3), large = lin(400, 300, 2)))

# Non-compliance: two-stage least squares.
set.seed(203)
encouraged <- function(sizes, treated, onesided, covariates = 0, strata = NULL, within = FALSE) {
  g <- rep(seq_along(sizes), sizes); n <- length(g)
  arm <- if (within) rbinom(n, 1, 0.5) else treated[g]
  u <- rnorm(n); b <- rnorm(length(sizes), 0, 0.5)[g]
  d <- as.numeric(0.2 + 1.3 * arm + u > 0.8); if (onesided) d <- d * arm
  x <- matrix(rnorm(n * covariates), n, covariates)
  y <- 5 + 2 * d + u + b + rnorm(n) + rowSums(x)
  dat <- data.frame(y, d, arm); parts <- character(0)
  if (covariates > 0) { colnames(x) <- paste0("x", 1:covariates); dat <- cbind(dat, x); parts <- c(parts, colnames(x)) }
  if (!is.null(strata)) { dat$s <- factor(strata[g]); parts <- c(parts, "s") }
  more <- if (length(parts)) paste("+", paste(parts, collapse = "+")) else ""
  fit <- ivreg(as.formula(paste("y ~ d", more, "| arm", more)), data = dat)
  first <- lm(as.formula(paste("d ~ arm", more)), dat); itt <- lm(as.formula(paste("y ~ arm", more)), dat)
  q <- length(unique(g)); one <- function(m, v) sqrt(v["d", "d"])
  cr2 <- coef_test(fit, vcov = "CR2", cluster = g, test = "Satterthwaite", coefs = "d")
  out <- list(y = vec(y), d = vec(d), arm = vec(arm), cluster = vec(g), absolute = coef(fit)[["d"]],
    hc1 = one(fit, vcovHC(fit, "HC1")), cr1 = one(fit, vcovCL(fit, g, type = "HC1")),
    cr2 = list(se = cr2$SE, df = cr2$df_Satt), first_stage = coef(first)[["arm"]],
    f_hc1 = coef(first)[["arm"]]^2 / vcovHC(first, "HC1")["arm", "arm"],
    f_cr1 = coef(first)[["arm"]]^2 / vcovCL(first, g, type = "HC1")["arm", "arm"],
    itt = coef(itt)[["arm"]], itt_hc1 = sqrt(vcovHC(itt, "HC1")["arm", "arm"]))
  # Anderson-Rubin by brute force: where is the robust t of y - b0 d on the arm just critical?
  ar <- function(b0) { m <- lm(as.formula(paste("v ~ arm", more)), cbind(dat, v = y - b0 * d))
    coef(m)[["arm"]]^2 / vcovHC(m, "HC1")["arm", "arm"] - qt(0.975, n - 1)^2 }
  b <- coef(fit)[["d"]]; se <- out$hc1
  out$ar <- vec(c(uniroot(ar, c(b - 12 * se, b), tol = 1e-12)$root, uniroot(ar, c(b, b + 12 * se), tol = 1e-12)$root))
  if (covariates > 0) out$covariates <- lapply(1:covariates, function(j) vec(x[, j]))
  if (!is.null(strata)) out$strata <- vec(strata[g])
  out
}
save_golden("compliance", tools("AER", "sandwich", "clubSandwich"), list(
  individual = encouraged(rep(1, 300), rep(0:1, 150), FALSE),
  onesided = encouraged(rep(6, 40), rep(0:1, 20), TRUE),
  clusters = encouraged(c(12, 7, 20, 9, 15, 6, 11, 18, 14, 8, 10, 13), rep(0:1, 6), FALSE, covariates = 2),
  strata = encouraged(rep(9, 24), rep(c(0, 1), 12), FALSE, covariates = 1, strata = rep(1:4, each = 6))
))

# Counts with exposure: Poisson regression with an offset, sandwich errors.
set.seed(204)
counts <- function(n_c, n_t, spread) {
  arm <- rep(0:1, c(n_c, n_t)); e <- rgamma(n_c + n_t, 3, 0.5)
  k <- rpois(n_c + n_t, e * exp(-1 + 0.3 * arm) * rgamma(n_c + n_t, 1 / spread, 1 / spread))
  fit <- glm(k ~ arm, poisson, offset = log(e))
  list(events = vec(k), exposure = vec(e), arm = vec(arm), log_ratio = coef(fit)[["arm"]],
       hc0 = sqrt(vcovHC(fit, "HC0")["arm", "arm"]), rate = exp(coef(fit)[[1]]),
       naive = sqrt(vcov(fit)["arm", "arm"]))
}
save_golden("counts", tools("sandwich"), list(even = counts(80, 80, 0.5), uneven = counts(40, 160, 2), small = counts(9, 12, 0.3)))

# Pairs: paired t, McNemar (mid-p and exact from the binomial).
set.seed(205)
pairs <- function(n) { base <- rnorm(n, 20, 4); list(a = base + rnorm(n), b = base + 0.6 + rnorm(n, 0, 1.5)) }
save_golden("paired", tools(), list(
  t = lapply(c(6, 40), function(n) { p <- pairs(n); f <- t.test(p$b, p$a, paired = TRUE, conf.level = 0.9)
    list(control = vec(p$a), treatment = vec(p$b), absolute = unname(f$estimate), se = f$stderr,
         df = unname(f$parameter), p = f$p.value, ci = vec(f$conf.int)) }),
  mcnemar = lapply(list(c(36, 12, 2, 0), c(1, 7, 1, 12), c(20, 5, 15, 30), c(794, 150, 86, 570)), function(k) {
    chi <- mcnemar.test(matrix(k, 2), correct = FALSE); b <- k[2]; c <- k[3]
    list(counts = k, asymptotic = chi$p.value, exact = binom.test(b, b + c)$p.value,
         mid = binom.test(b, b + c)$p.value - dbinom(min(b, c), b + c, 0.5)) }),
  winsor = lapply(c(0.9, 0.99), function(q) { a <- rexp(200); b <- rexp(260, 0.8)
    cap <- unname(quantile(c(a, b), q)); f <- t.test(pmin(b, cap), pmin(a, cap))
    list(control = vec(a), treatment = vec(b), quantile = q, cap = cap, absolute = unname(-diff(f$estimate)),
         se = f$stderr, df = unname(f$parameter), p = f$p.value) })
))
