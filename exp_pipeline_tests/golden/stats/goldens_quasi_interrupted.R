# Makes golden_quasi_interrupted.json. Run: Rscript goldens_quasi_interrupted.R
suppressPackageStartupMessages({ library(jsonlite); library(sandwich) })
RNGkind("Mersenne-Twister", "Inversion", "Rejection")
set.seed(88)
vec <- function(x) I(as.numeric(x))
series <- function(n, start, season, lags, other) {
  time <- 0:(n - 1)
  y <- 20 + 0.1 * time + 2 * (time >= start) + 0.05 * pmax(time - start, 0) + as.numeric(arima.sim(list(ar = 0.4), n))
  control <- if (other) 8 + 0.2 * time + rnorm(n) else NULL
  d <- data.frame(y = if (other) y - control else y, time, after = as.integer(time >= start), since = pmax(time - start, 0))
  f <- y ~ time + after + since
  if (!is.null(season)) { d$place <- factor(time %% season); f <- y ~ time + after + since + place }
  fit <- lm(f, d)
  v <- NeweyWest(fit, lag = lags, prewhite = FALSE, adjust = TRUE)
  b <- coef(fit); w <- c(1, (n - start - 1) / 2); e <- c(1, n - start - 1); i <- c("after", "since")
  list(y = vec(y), control = if (other) vec(control) else NULL, start = start, season = season, lags = lags,
       estimates = vec(c(b[i], sum(w * b[i]), sum(e * b[i]))),
       se = vec(sqrt(c(diag(v)[i], w %*% v[i, i] %*% w, e %*% v[i, i] %*% e))), df = fit$df.residual)
}
write_json(list(generator = "goldens_quasi_interrupted.R",
  tools = list(R = as.character(getRversion()), sandwich = as.character(packageVersion("sandwich"))),
  cases = list(plain = series(60, 35, NULL, 3, FALSE), weekly = series(84, 50, 7, 7, FALSE),
               controlled = series(48, 24, NULL, 5, TRUE), white = series(30, 12, NULL, 0, FALSE))),
  "golden_quasi_interrupted.json", digits = NA, auto_unbox = TRUE, null = "null")
