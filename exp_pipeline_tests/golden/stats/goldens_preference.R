# Makes golden_bradley_terry.json and golden_preference.json. Run: Rscript goldens_preference.R
suppressPackageStartupMessages({
  library(jsonlite); library(BradleyTerry2); library(sandwich); library(MASS); library(qvcalc)
})
RNGkind("Mersenne-Twister", "Inversion", "Rejection")
tools <- function(...) {
  packages <- c(...)
  c(list(R = as.character(getRversion())),
    setNames(lapply(packages, function(p) as.character(packageVersion(p))), packages))
}
save_golden <- function(name, tool, cases) {
  write_json(list(generator = "goldens_preference.R", tools = tool, cases = cases),
             paste0("golden_", name, ".json"), digits = NA, auto_unbox = TRUE, pretty = FALSE)
}
vec <- function(x) I(as.numeric(x))

items <- c("a", "b", "c", "d", "e"); lambda <- c(0, 0.6, -0.4, 1.1, 0.2); k <- length(items)
draw <- function(n, tie, order, raters) {
  i <- sample(k, n, TRUE); j <- (i + sample(k - 1, n, TRUE) - 1) %% k + 1
  rater <- sample(raters, n, TRUE); taste <- rnorm(raters, 0, 0.6)
  eta <- lambda[i] - lambda[j] + order + taste[rater]
  latent <- eta + rlogis(n)
  data.frame(i = i, j = j, rater = rater, y = ifelse(abs(latent) < tie, 0.5, as.numeric(latent > 0)))
}
design <- function(d) { x <- matrix(0, nrow(d), k); x[cbind(seq_len(nrow(d)), d$i)] <- 1
  x[cbind(seq_len(nrow(d)), d$j)] <- x[cbind(seq_len(nrow(d)), d$j)] - 1; x[, -1] }
# Contrasts with item a; values, errors and the order effect as they come.
rows <- function(d) list(first = items[d$i], second = items[d$j], outcome = vec(d$y), rater = vec(d$rater))

set.seed(301)
d <- draw(300, 0, 0.3, 25)
f1 <- data.frame(item = factor(items[d$i], levels = items), shown = 1)
f2 <- data.frame(item = factor(items[d$j], levels = items), shown = 0)
w <- d$y; l <- 1 - d$y
bt <- BTm(cbind(w, l), f1, f2, ~ item + shown, id = "item")
s <- summary(bt)$coefficients
x <- design(d)
plain <- glm(d$y ~ 0 + x + I(rep(1, nrow(d))), family = binomial, control = list(epsilon = 1e-14, maxit = 50))
clustered <- sqrt(diag(vcovCL(plain, cluster = d$rater, type = "HC0", cadjust = TRUE)))
no_ties <- c(rows(d), list(value = vec(s[1:(k - 1), 1]), se = vec(s[1:(k - 1), 2]), order = s[k, 1], order_se = s[k, 2],
  order_p = s[k, 4], log_likelihood = as.numeric(logLik(bt)), glm_value = vec(coef(plain)), clustered_se = vec(clustered)))

# Comparison bars; the order effect is the last coefficient.
qv <- qvcalc(rbind(0, cbind(0, vcov(bt)[1:(k - 1), 1:(k - 1)])), labels = items)
no_ties$quasi_se <- vec(qv$qvframe$quasiSE)
no_ties$quasi_worst <- vec(range(qv$relerrs))

# Davidson's model is a log-linear model: pair totals free, half a strength to each side (Fienberg and Larntz 1976).
set.seed(302)
d <- draw(400, 0.5, 0.25, 30)
pair <- factor(paste(d$i, d$j))
long <- do.call(rbind, lapply(levels(pair), function(p) {
  at <- pair == p; x <- design(d[at, ])[1, ]
  data.frame(pair = p, n = c(sum(d$y[at] == 1), sum(d$y[at] == 0), sum(d$y[at] == 0.5)),
             rbind(x / 2, -x / 2, 0 * x), order = c(0.5, -0.5, 0), tie = c(0, 0, 1))
}))
names(long)[3:(k + 1)] <- paste0("x", 2:k)
fit <- glm(n ~ pair + x2 + x3 + x4 + x5 + order + tie, family = poisson, data = long,
           control = list(epsilon = 1e-14, maxit = 100))
s <- summary(fit)$coefficients
davidson <- c(rows(d), list(value = vec(s[paste0("x", 2:k), 1]), se = vec(s[paste0("x", 2:k), 2]),
  order = s["order", 1], order_se = s["order", 2], tie = s["tie", 1], tie_se = s["tie", 2]))

# Rao and Kupper's with an order effect is the ordered logit: thresholds -order -+ log theta.
x <- design(d)
ordered_y <- factor(d$y, levels = c(0, 0.5, 1), ordered = TRUE)
pl <- polr(ordered_y ~ x, Hess = TRUE, control = list(reltol = 1e-16, maxit = 1000))
v <- vcov(pl); b <- c(coef(pl), pl$zeta); m <- length(coef(pl))
half <- c(rep(0, m), -0.5, -0.5); gap <- c(rep(0, m), -0.5, 0.5)
rao_kupper <- list(value = vec(coef(pl)), se = vec(sqrt(diag(v))[1:m]), order = sum(half * b),
  order_se = sqrt(as.numeric(half %*% v %*% half)), tie = sum(gap * b), tie_se = sqrt(as.numeric(gap %*% v %*% gap)),
  log_likelihood = as.numeric(logLik(pl)))
save_golden("bradley_terry", tools("BradleyTerry2", "sandwich", "MASS", "qvcalc"),
            list(no_ties = no_ties, davidson = davidson, rao_kupper = rao_kupper))

# Share preferred, by rater and prompt, with the place of treatment.
set.seed(303)
n <- 240; rater <- sample(24, n, TRUE); prompt <- sample(40, n, TRUE); place <- rbinom(n, 1, 0.5)
u <- 0.3 + rnorm(24, 0, 0.7)[rater] + rnorm(40, 0, 0.7)[prompt] + 0.4 * (2 * place - 1) + rlogis(n)
y <- ifelse(abs(u) < 0.4, 0.5, as.numeric(u > 0))
one <- lm(y ~ 1); two <- lm(y ~ I(place - 0.5))
error <- function(fit, cluster) sqrt(diag(vcovCL(fit, cluster = cluster, type = "HC0", cadjust = TRUE)))
both <- data.frame(rater, prompt)
signs <- as.vector(tapply(y - 0.5, rater, sum))
save_golden("preference", tools("sandwich"), list(
  outcome = vec(y), rater = vec(rater), prompt = vec(prompt), place = vec(place),
  share = as.numeric(coef(one)), se_rater = as.numeric(error(one, rater)), se_both = as.numeric(error(one, both)),
  placed = vec(coef(two)), placed_se_rater = vec(error(two, rater)), placed_se_both = vec(error(two, both)),
  sign_p = binom.test(sum(y == 1), sum(y != 0.5))$p.value,
  sign_p_rater = binom.test(sum(signs > 0), sum(signs != 0))$p.value))
