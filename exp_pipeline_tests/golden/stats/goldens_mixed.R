# Makes golden_mixed.json. Run: Rscript goldens_mixed.R
suppressPackageStartupMessages({ library(jsonlite); library(lme4); library(lmerTest); library(pbkrtest) })
RNGkind("Mersenne-Twister", "Inversion", "Rejection")
tools <- function(...) {
  packages <- c(...)
  c(list(R = as.character(getRversion())),
    setNames(lapply(packages, function(p) as.character(packageVersion(p))), packages))
}
vec <- function(x) I(as.numeric(x))
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = 1e-2, rhoend = 1e-11, maxfun = 1e5),
                     check.conv.singular = "ignore", calc.derivs = TRUE)

model <- function(sizes, icc, within = FALSE, slope = 0, k = 0) {
  cluster <- rep(seq_along(sizes), sizes); n <- length(cluster)
  arm <- if (within) rbinom(n, 1, 0.5) else cluster %% 2
  x <- matrix(rnorm(n * k), n, k); colnames(x) <- paste0("x", seq_len(k))[seq_len(k)]
  u <- rnorm(length(sizes), 0, sqrt(icc / (1 - icc))); b <- rnorm(length(sizes), 0, slope) + 0.3 * slope * u
  y <- 10 + u[cluster] + (0.5 + b[cluster]) * arm + rnorm(n) + if (k) x %*% rep(1, k) else 0
  d <- data.frame(y = as.numeric(y), arm, cluster = factor(cluster), x)
  random <- if (slope > 0) "(1 + arm | cluster)" else "(1 | cluster)"
  f <- as.formula(paste("y ~", paste(c(colnames(x), "arm"), collapse = " + "), "+", random))
  fit <- lmerTest::lmer(f, d, REML = TRUE, control = tight)
  s <- summary(fit, ddf = "Satterthwaite")$coefficients["arm", ]
  kr <- summary(fit, ddf = "Kenward-Roger")$coefficients["arm", ]
  v <- as.data.frame(VarCorr(fit))
  out <- list(y = vec(y), arm = vec(arm), cluster = vec(cluster),
              x = if (k) lapply(seq_len(k), function(j) vec(x[, j])) else list(),
              absolute = s[["Estimate"]], se = s[["Std. Error"]], df = s[["df"]], p = s[["Pr(>|t|)"]],
              kr_se = kr[["Std. Error"]], kr_df = kr[["df"]], kr_p = kr[["Pr(>|t|)"]],
              between = v$vcov[1], within = sigma(fit)^2, singular = isSingular(fit, tol = 1e-6))
  if (slope > 0) { out$effect_variance <- v$vcov[2]; out$correlation <- attr(VarCorr(fit)$cluster, "correlation")[1, 2] }
  out
}
set.seed(701)
cases <- list(
  schools = model(c(12, 20, 9, 15, 30, 11, 18, 14, 22, 16), 0.2),
  adjusted = model(sample(5:25, 24, replace = TRUE), 0.1, k = 2),
  within = model(c(12, 20, 9, 15, 30, 11), 0.3, within = TRUE, k = 1),
  few = model(c(8, 8, 8, 8, 8, 8), 0.3),
  slopes = model(sample(15:40, 20, replace = TRUE), 0.2, within = TRUE, slope = 0.7),
  slopes_adjusted = model(sample(15:40, 14, replace = TRUE), 0.2, within = TRUE, slope = 1, k = 1))
set.seed(705)
cases$zero <- model(rep(6, 12), 0.0001)
write_json(list(generator = "goldens_mixed.R", tools = tools("lme4", "lmerTest", "pbkrtest"), cases = cases),
           "golden_mixed.json", digits = NA, auto_unbox = TRUE, pretty = FALSE)
cat(sapply(cases, function(c) c$singular), "\n")
