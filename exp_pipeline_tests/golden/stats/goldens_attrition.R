# Makes golden_attrition.json. Run: Rscript goldens_attrition.R
suppressPackageStartupMessages({ library(jsonlite); library(survey); library(clubSandwich); library(numDeriv) })
RNGkind("Mersenne-Twister", "Inversion", "Rejection")
tools <- function(...) {
  packages <- c(...)
  c(list(R = as.character(getRversion())),
    setNames(lapply(packages, function(p) as.character(packageVersion(p))), packages))
}
vec <- function(x) I(as.numeric(x))

# Stacked estimating equations, differentiated by number and not by hand.
stacked <- function(y, s, x, cluster) {
  x <- cbind(1, x); k <- ncol(x)
  fit <- glm(s ~ x - 1, family = binomial, control = list(epsilon = 1e-15, maxit = 100))
  p <- fitted(fit); w <- ifelse(s == 1, 1 / p, 0); y <- ifelse(s == 1, y, 0)
  mu <- sum(w * y) / sum(w)
  psi <- function(theta) {
    q <- plogis(x %*% theta[1:k])[, 1]
    cbind(x * (s - q), ifelse(s == 1, (y - theta[k + 1]) / q, 0))
  }
  theta <- c(coef(fit), mu)
  bread <- solve(jacobian(function(t) colSums(psi(t)), theta))
  each <- rowsum(psi(theta), cluster)
  v <- bread %*% crossprod(each) %*% t(bread)
  seen <- s == 1
  design <- svydesign(ids = if (length(unique(cluster)) == length(s)) ~1 else ~cl, weights = ~w,
                      data = data.frame(y = y[seen], w = w[seen], cl = cluster[seen]))
  known <- svymean(~y, design)
  list(mean = mu, se = sqrt(v[k + 1, k + 1]), survey_mean = as.numeric(known), survey_se = as.numeric(SE(known)))
}
ipw <- function(n, sizes = NULL) {
  cluster <- if (is.null(sizes)) seq_len(n) else rep(seq_along(sizes), sizes)
  n <- length(cluster)
  arm <- if (is.null(sizes)) rbinom(n, 1, 0.5) else cluster %% 2
  x <- cbind(rnorm(n, 3, 2), rbinom(n, 1, 0.4))
  u <- rnorm(max(cluster)) * !is.null(sizes)
  y <- 2 + x %*% c(0.7, -1) + arm + u[cluster] + rnorm(n)
  s <- rbinom(n, 1, plogis(0.6 + 0.4 * (x[, 1] - 3) * (1 - 2 * arm) + 0.5 * x[, 2]))
  one <- lapply(0:1, function(a) stacked(y[arm == a], s[arm == a], x[arm == a, ], cluster[arm == a]))
  lost <- 1 - s
  d <- data.frame(lost, arm, x1 = x[, 1], x2 = x[, 2])
  fit <- lm(lost ~ arm * (x1 + x2), d)
  test <- function(names) {
    w <- Wald_test(fit, constraints = constrain_zero(names, reg_ex = FALSE), vcov = vcovCR(fit, cluster, "CR3"),
                   test = "Naive-F")
    list(f = w$Fstat, df = w$df_denom, p = w$p_val)
  }
  list(y = vec(y), observed = vec(s), arm = vec(arm), x = lapply(1:2, function(j) vec(x[, j])), cluster = vec(cluster),
       control = one[[1]], treatment = one[[2]],
       related = test(c("x1", "x2", "arm:x1", "arm:x2")), differential = test(c("arm:x1", "arm:x2")))
}
set.seed(601)
write_json(list(generator = "goldens_attrition.R", tools = tools("survey", "clubSandwich", "numDeriv"),
                cases = list(ipw = list(units = ipw(150), clusters = ipw(0, sample(6:14, 24, replace = TRUE))))),
           "golden_attrition.json", digits = NA, auto_unbox = TRUE, pretty = FALSE)
