# Makes golden_quasi_cr2.json from the rows in golden_quasi_differences.json. Run: Rscript goldens_quasi.R
suppressPackageStartupMessages({ library(jsonlite); library(clubSandwich) })
rows <- fromJSON("golden_quasi_differences.json")$cases$unbalanced
d <- as.data.frame(rows$rows); start <- rows$start
d$u <- factor(d$unit); d$t <- factor(d$period)
one <- function(fit, name) {
  v <- vcovCR(fit, cluster = d$cluster, type = "CR2")
  t <- coef_test(fit, vcov = v, test = "Satterthwaite")
  i <- which(rownames(t) == name)
  list(effect = t$beta[i], se = t$SE[i], df = t$df_Satt[i], p = t$p_Satt[i])
}
plain <- one(lm(y ~ u + t + d, d), "d")
covariate <- one(lm(y ~ u + t + x + d, d), "d")
after <- as.integer(d$period >= start)
d$after <- after
two <- one(lm(y ~ ever * after, d), "ever:after")
rel <- setdiff(sort(unique(d$period - start)), -1)
names_e <- paste0("e", sub("-", "m", rel))
for (j in seq_along(rel)) d[[names_e[j]]] <- as.integer(d$period - start == rel[j] & d$ever == 1)
fit <- lm(as.formula(paste("y ~ u + t +", paste(names_e, collapse = " + "))), d)
v <- vcovCR(fit, cluster = d$cluster, type = "CR2")
t <- coef_test(fit, vcov = v, test = "Satterthwaite")[names_e, ]
pre <- names_e[rel < 0]
cm <- matrix(0, length(pre), length(coef(fit))); for (j in seq_along(pre)) cm[j, which(names(coef(fit)) == pre[j])] <- 1
w <- Wald_test(fit, constraints = cm, vcov = v, test = "HTZ")
write_json(list(generator = "goldens_quasi.R",
  tools = list(R = as.character(getRversion()), clubSandwich = as.character(packageVersion("clubSandwich"))),
  cases = list(plain = plain, covariate = covariate, two_period = two,
    study = list(relative = rel, points = t$beta, se = t$SE, df = t$df_Satt, f = w$Fstat, df_denominator = w$df_denom, p = w$p_val))),
  "golden_quasi_cr2.json", digits = NA, auto_unbox = TRUE)
