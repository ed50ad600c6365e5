# Makes golden_planning.json: power of many designs, Dunnett's bounds, variance components, looks.
# Run: Rscript goldens_planning.R (needs the packages loaded below).
suppressPackageStartupMessages({
  library(jsonlite); library(pwr); library(mvtnorm); library(lme4); library(psych); library(rpact)
})
RNGkind("Mersenne-Twister", "Inversion", "Rejection")
tools <- function(...) {
  packages <- c(...)
  c(list(R = as.character(getRversion())),
    setNames(lapply(packages, function(p) as.character(packageVersion(p))), packages))
}
vec <- function(x) I(as.numeric(x))

# power.t.test with both tails counted, at exact n; paired and one-sided too.
t_tests <- lapply(list(c(12, 0.9, 1.4), c(40, 0.5, 1), c(250, 3, 12)), function(k) list(
  n = k[1], effect = k[2], sd = k[3],
  power = power.t.test(n = k[1], delta = k[2], sd = k[3], strict = TRUE)$power,
  one_sided = power.t.test(n = k[1], delta = k[2], sd = k[3], alternative = "one.sided")$power,
  paired = power.t.test(n = k[1], delta = k[2], sd = k[3], type = "paired", strict = TRUE)$power,
  pwr_paired = pwr.t.test(n = k[1], d = k[2] / k[3], type = "paired")$power))

# Dunnett's two- and one-sided bounds from the multivariate t (df 0 is a normal).
dunnett <- lapply(list(c(2, 10, 1), c(3, 20, 1), c(3, 60, 0.5), c(5, 30, 0.4), c(4, 0, 1)), function(k) {
  r <- k[3] / (1 + k[3]); corr <- matrix(r, k[1], k[1]); diag(corr) <- 1
  accurate <- GenzBretz(maxpts = 1e6, abseps = 1e-7)
  inside <- function(x, lower) {
    set.seed(1); low <- rep(if (lower) -x else -Inf, k[1]); high <- rep(x, k[1])
    if (k[2] == 0) pmvnorm(low, high, corr = corr, algorithm = accurate) else
      pmvt(low, high, df = k[2], corr = corr, algorithm = accurate)
  }
  q <- function(tail) uniroot(function(x) as.numeric(inside(x, tail == "both.tails")) - 0.95, c(1, 4), tol = 1e-8)$root
  list(treatments = k[1], df = k[2], ratio = k[3], two_sided = q("both.tails"), one_sided = q("lower.tail"))
})

# REML variance components.
set.seed(301)
components <- lapply(list(list(rep(9, 14), 2, 4), list(c(3, 20, 7, 11, 2, 15, 9, 6, 30, 4), 3, 3), list(rep(c(2, 25), 20), 1, 2)),
  function(k) {
    g <- rep(seq_along(k[[1]]), k[[1]]); x <- rnorm(length(g)) + rnorm(length(k[[1]]))[g]
    y <- 50 + x + rnorm(length(k[[1]]), 0, k[[2]])[g] + rnorm(length(g), 0, k[[3]])
    control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-12))
    one <- function(formula) {
      fit <- lmer(formula, REML = TRUE, control = control); v <- as.data.frame(VarCorr(fit))$vcov
      list(between = v[1], within = v[2], reml = -2 * as.numeric(logLik(fit)))
    }
    plain <- one(y ~ 1 + (1 | g)); beside <- one(y ~ x + (1 | g))
    searle <- NULL
    if (length(unique(k[[1]])) == 1) {
      wide <- matrix(y, nrow = length(k[[1]]), byrow = TRUE)
      s <- suppressWarnings(suppressMessages(psych::ICC(wide, lmer = FALSE)))$results[1, ]
      searle <- c(s[["lower bound"]], s[["upper bound"]])
    }
    # Profile of the restricted likelihood, lme4's own, over the ratio theta: where it rises by 3.84.
    d <- lmer(y ~ 1 + (1 | g), REML = TRUE, devFunOnly = TRUE)
    top <- sqrt(plain$between / plain$within); lowest <- d(top); cut <- lowest + qchisq(0.95, 1)
    upper <- uniroot(function(t) d(t) - cut, c(top, 50), tol = 1e-12)$root
    lower <- if (d(0) > cut) uniroot(function(t) d(t) - cut, c(0, top), tol = 1e-12)$root else NA
    list(values = vec(y), cluster = vec(g), x = vec(x), plain = plain, beside = beside,
         searle = if (is.null(searle)) NULL else vec(searle),
         profile_upper = upper^2 / (1 + upper^2), profile_lower = if (is.na(lower)) NULL else lower^2 / (1 + lower^2))
  })

# Group-sequential inflation factors: power counted on the planned side.
looks <- lapply(list(list("asOF", 4, 0.8), list("asP", 4, 0.8), list("asOF", 10, 0.9), list("asP", 2, 0.9)), function(k) {
  d <- getDesignGroupSequential(kMax = k[[2]], alpha = 0.025, sided = 1, beta = 1 - k[[3]], typeOfDesign = k[[1]])
  list(family = k[[1]], looks = k[[2]], power = k[[3]], inflation = getDesignCharacteristics(d)$inflationFactor,
       expected = getDesignCharacteristics(d)$averageSampleNumber1)
})

# Non-inferiority of means (one-sided t with the margin as effect) and of shares (Wald, Chow and others).
margins <- lapply(list(c(0.2, 0, 1), c(0.3, 0.05, 1.2)), function(k)
  list(margin = k[1], expected = k[2], sd = k[3],
       n = power.t.test(delta = k[1] - k[2], sd = k[3], power = 0.8, alternative = "one.sided", tol = 1e-10)$n))

write_json(list(generator = "goldens_planning.R", tools = tools("pwr", "mvtnorm", "lme4", "psych", "rpact"),
                cases = list(t_tests = t_tests, dunnett = dunnett, components = components, looks = looks,
                             margins = margins)),
           "golden_planning.json", digits = NA, auto_unbox = TRUE, pretty = FALSE)
