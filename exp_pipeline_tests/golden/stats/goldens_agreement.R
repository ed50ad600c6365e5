# Makes golden_agreement.json: kappas of psych, vcd and survey, weighted shares of survey. Run: Rscript goldens_agreement.R
suppressPackageStartupMessages({ library(jsonlite); library(psych); library(vcd); library(survey) })
RNGkind("Mersenne-Twister", "Inversion", "Rejection")
tools <- c(list(R = as.character(getRversion())),
           sapply(c("psych", "vcd", "survey"), function(p) as.character(packageVersion(p)), simplify = FALSE))
vec <- function(x) I(as.numeric(x))

set.seed(401)
n <- 150; k <- 4
truth <- sample(k, n, TRUE, prob = c(0.4, 0.3, 0.2, 0.1))
noisy <- function() pmin(k, pmax(1, truth + sample(-1:1, n, TRUE, prob = c(0.15, 0.7, 0.15))))
a <- noisy(); b <- noisy()
# psych 2.2.9 gives a variance of 0 for quadratic weights, so weighted errors come from vcd.
weighted <- function(kind) {
  fit <- Kappa(table(factor(a, 1:k), factor(b, 1:k)), weights = kind)
  list(value = as.numeric(fit$Weighted["value"]), se = as.numeric(fit$Weighted["ASE"]))
}
plain <- cohen.kappa(cbind(a, b))
pairs <- list(first = vec(a), second = vec(b),
  none = list(value = as.numeric(plain$kappa), se = sqrt(as.numeric(plain$var.kappa))),
  linear = weighted("Equal-Spacing"), quadratic = weighted("Fleiss-Cohen"),
  psych_quadratic = as.numeric(plain$weighted.kappa))

population <- c(low = 5000, middle = 900, high = 120)
rows <- c(60, 50, 40)
s <- rep(names(population), rows); size <- population[s]
good <- rbinom(150, 1, rep(c(0.1, 0.4, 0.8), rows)); other <- ifelse(runif(150) < 0.8, good, 1 - good)
frame <- data.frame(s, size, good = factor(good), other = factor(other), y = good)
design <- svydesign(ids = ~1, strata = ~s, fpc = ~size, data = frame)
m <- svymean(~y, design)
# svykappa takes the linearised variance of the design, the same idea as ours.
kp <- svykappa(~ good + other, design)
strata <- list(stratum = s, population = as.list(population), good = vec(good), other = vec(other),
  share = as.numeric(coef(m)), se = as.numeric(SE(m)), kappa = as.numeric(coef(kp)), kappa_se = as.numeric(SE(kp)))
write_json(list(generator = "goldens_agreement.R", tools = tools, cases = list(pairs = pairs, strata = strata)),
           "golden_agreement.json", digits = NA, auto_unbox = TRUE, pretty = FALSE)
