# Makes golden_heterogeneity.json and golden_joint.json. Run: Rscript goldens_heterogeneity.R
suppressPackageStartupMessages({ library(jsonlite); library(metafor); library(clubSandwich) })
RNGkind("Mersenne-Twister", "Inversion", "Rejection")
tools <- function(...) {
  packages <- c(...)
  c(list(R = as.character(getRversion())),
    setNames(lapply(packages, function(p) as.character(packageVersion(p))), packages))
}
save_golden <- function(name, tool, cases) {
  write_json(list(generator = "goldens_heterogeneity.R", tools = tool, cases = cases),
             paste0("golden_", name, ".json"), digits = NA, auto_unbox = TRUE, pretty = FALSE)
}
vec <- function(x) I(as.numeric(x))

set.seed(501)
pooled <- function(y, v) {
  one <- function(method) {
    fit <- rma(y, v, method = method, test = "knha",
               control = list(threshold = 1e-14, maxiter = 100000, tol = 1e-14))
    ci <- confint(fit, control = list(tol = 1e-14, tau2.max = 1e6))$random["tau^2", ]
    pr <- predict(rma(y, v, method = method, control = list(threshold = 1e-14, maxiter = 100000, tol = 1e-14)))
    out <- list(tau2 = fit$tau2, i2 = fit$I2 / 100, q = fit$QE, q_p = fit$QEp, mean = as.numeric(fit$beta),
                se = fit$se, lower = fit$ci.lb, upper = fit$ci.ub, p = fit$pval,
                tau2_lower = ci[["ci.lb"]], tau2_upper = ci[["ci.ub"]])
    if (method == "REML") {
      plain <- rma(y, v, method = method, control = list(threshold = 1e-14, maxiter = 100000))
      b <- blup(plain)
      out$blup <- vec(b$pred); out$blup_se <- vec(b$se)
    }
    out
  }
  list(y = vec(y), v = vec(v), reml = one("REML"), pm = one("PM"), dl = one("DL"))
}
bcg <- escalc(measure = "RR", ai = tpos, bi = tneg, ci = cpos, di = cneg, data = dat.bcg)
welch <- function(sizes) {
  g <- rep(seq_along(sizes), sizes); y <- rnorm(length(g), g / 3, g)
  t <- oneway.test(y ~ factor(g))
  list(y = vec(y), g = vec(g), f = t$statistic[[1]], df1 = t$parameter[[1]], df2 = t$parameter[[2]], p = t$p.value)
}
save_golden("heterogeneity", tools("metafor"), list(
  pooled = list(
    bcg = pooled(as.numeric(bcg$yi), as.numeric(bcg$vi)),
    few = pooled(c(1.2, -0.4, 0.9), c(0.1, 0.3, 0.2)),
    schools = pooled(c(28, 8, -3, 7, -1, 1, 18, 12), c(15, 10, 16, 11, 9, 11, 10, 18)^2),
    many = pooled(rnorm(20, 0.3, 0.5), rchisq(20, 3) / 10)),
  welch = list(three = welch(c(9, 14, 30)), six = welch(c(4, 7, 5, 11, 20, 3)), two = welch(c(6, 15)))))

# Segments that share clusters: joint CR2 and its Hotelling test.
set.seed(502)
joint <- function(sizes, segments, within, covariate = FALSE) {
  cluster <- rep(seq_along(sizes), sizes); n <- length(cluster)
  seg <- sample(seq_len(segments), n, replace = TRUE)
  arm <- if (within) rbinom(n, 1, 0.4) else (cluster %% 2)
  y <- 5 + rnorm(length(sizes))[cluster] + 0.5 * seg + arm * (1 + 0.4 * seg) + rnorm(n, 0, 1 + arm)
  d <- data.frame(y, arm, seg = factor(seg), cluster)
  fit <- lm(y ~ 0 + seg + seg:arm, d)
  v <- vcovCR(fit, cluster = d$cluster, type = "CR2")
  here <- grep(":arm", names(coef(fit)))
  cm <- matrix(0, segments - 1, length(coef(fit)))
  for (i in seq_len(segments - 1)) { cm[i, here[i]] <- 1; cm[i, here[segments]] <- -1 }
  test <- Wald_test(fit, constraints = cm, vcov = v, test = "HTZ")
  ct <- coef_test(fit, vcov = v, test = "Satterthwaite")
  list(y = vec(y), arm = vec(arm), seg = vec(seg), cluster = vec(cluster), effects = vec(coef(fit)[here]),
       covariance = unname(apply(as.matrix(v)[here, here], 1, as.numeric, simplify = FALSE)),
       df = vec(ct$df_Satt[here]), f = test$Fstat, df_num = test$df_num, df_den = test$df_denom, p = test$p_val)
}
save_golden("joint", tools("clubSandwich"), list(
  schools = joint(c(12, 20, 9, 15, 30, 11, 18, 14, 22, 16), 3, FALSE),
  within = joint(c(12, 20, 9, 15, 30, 11, 18, 14), 4, TRUE),
  two = joint(rep(10, 12), 2, FALSE),
  units = joint(rep(1, 60), 3, TRUE)))
