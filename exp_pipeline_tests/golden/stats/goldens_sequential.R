# Makes golden_spending.json and golden_group_sequential.json from rpact. Run: Rscript goldens_sequential.R
suppressPackageStartupMessages({ library(jsonlite); library(rpact) })
tools <- list(R = as.character(getRversion()), rpact = as.character(packageVersion("rpact")))
save_golden <- function(name, cases) {
  write_json(list(generator = "goldens_sequential.R", tools = tools, cases = cases),
             paste0("golden_", name, ".json"), digits = NA, auto_unbox = TRUE, pretty = FALSE)
}
vec <- function(x) I(as.numeric(x))
quiet <- function(expression) { out <- NULL; capture.output(out <- suppressWarnings(expression)); out }

types <- list(`obrien-fleming` = "asOF", pocock = "asP", `kim-demets` = "asKD")
design <- function(family, rates, alpha, sided, gamma = 1.5, ...) {
  args <- list(informationRates = rates, alpha = alpha, sided = sided, typeOfDesign = types[[family]],
               tolerance = 1e-10, ...)
  if (family == "kim-demets") args$gammaA <- gamma
  if (length(rates) == 1) { args$informationRates <- NULL; args$kMax <- 1 }
  do.call(getDesignGroupSequential, args)
}

fractions <- list(c(0.5, 1), (1:5) / 5, c(0.1, 0.25, 0.6, 0.95, 1), (1:12) / 12, c(0.3, 0.36, 0.7, 1), (1:20) / 20)
cases <- list()
for (family in names(types)) for (sided in 1:2) for (alpha in c(0.05, 0.025, 0.01)) for (rates in fractions) {
  d <- design(family, rates, alpha, sided)
  cases[[length(cases) + 1]] <- list(family = family, sides = sided, alpha = alpha, gamma = 1.5,
    fractions = vec(rates), critical = vec(d$criticalValues), spent = vec(d$alphaSpent))
}
save_golden("spending", cases)

# What a design needs: the drift for the power, the inflation and the expected information.
characteristics <- list()
for (family in names(types)) for (sided in 1:2) for (rates in fractions[c(1, 2, 3, 4)]) {
  alpha <- if (sided == 1) 0.025 else 0.05
  ch <- getDesignCharacteristics(design(family, rates, alpha, sided, beta = 0.1))
  characteristics[[length(characteristics) + 1]] <- list(family = family, sides = sided, alpha = alpha, gamma = 1.5,
    fractions = vec(rates), power = 0.9, shift = ch$shift, factor = ch$inflationFactor,
    planned = ch$averageSampleNumber1, half = ch$averageSampleNumber01, null = ch$averageSampleNumber0)
}

# Trials of two arms with cumulative means: repeated intervals and p-values, and the estimates after stopping.
trial <- function(name, family, rates, alpha, sided, n1, n2, m1, m2, s1, s2, normal, gamma = 1.5) {
  d <- design(family, rates, alpha, sided, gamma)
  data <- getDataset(overallN1 = n1, overallN2 = n2, overallMeans1 = m1, overallMeans2 = m2,
                     overallStDevs1 = s1, overallStDevs2 = s2)
  stage <- quiet(getStageResults(d, data, normalApproximation = normal))
  k <- length(n1)
  rci <- quiet(getRepeatedConfidenceIntervals(d, data, normalApproximation = normal, tolerance = 1e-10))
  rp <- quiet(getRepeatedPValues(stage, tolerance = 1e-10))
  final <- quiet(getFinalConfidenceInterval(d, data, normalApproximation = normal, tolerance = 1e-10))
  list(name = name, family = family, fractions = vec(rates), alpha = alpha, sides = sided, gamma = gamma,
       n_treatment = vec(n1), n_control = vec(n2), mean_treatment = vec(m1), mean_control = vec(m2),
       sd_treatment = vec(s1), sd_control = vec(s2), normal = normal,
       lower = vec(rci[1, 1:k]), upper = vec(rci[2, 1:k]), repeated_p = vec(rp[1:k]),
       final = if (all(is.finite(final$finalConfidenceInterval))) list(
         stage = final$finalStage, interval = vec(final$finalConfidenceInterval), estimate = final$medianUnbiased,
         p = tryCatch(quiet(getFinalPValue(stage))$pFinal, error = function(e) NULL)) else NULL)
}
trials <- list(
  trial("first look", "pocock", c(.2, .5, 1), .025, 1, c(40, 100), c(40, 100), c(1, 1.1), c(.4, .6), c(1, 1), c(1, 1), TRUE),
  trial("second look", "obrien-fleming", c(.2, .5, 1), .025, 1, c(40, 100), c(40, 100), c(1, 1.1), c(.4, .6), c(1, 1), c(1, 1), TRUE),
  trial("last look, not crossed", "obrien-fleming", c(1, 2, 3) / 3, .025, 1, c(50, 100, 150), c(50, 100, 150),
        c(.3, .2, .15), c(.1, .05, .05), c(1, 1, 1), c(1, 1, 1), TRUE),
  trial("last look, crossed", "kim-demets", (1:4) / 4, .025, 1, c(50, 100, 150, 200), c(50, 100, 150, 200),
        c(.3, .25, .3, .32), c(.1, .05, .05, .08), c(1, 1.1, 1, 1), c(1, .9, 1, 1), TRUE),
  trial("two sides, up", "obrien-fleming", c(.2, .5, 1), .05, 2, c(40, 100), c(40, 100), c(1, 1.1), c(.4, .6), c(1, 1), c(1, 1), TRUE),
  trial("two sides, last", "pocock", c(.4, .7, 1), .05, 2, c(80, 140, 200), c(80, 140, 200), c(.1, .15, .25), c(0, 0, .02),
        c(1, 1, 1), c(1, 1, 1), TRUE),
  trial("few degrees of freedom", "pocock", c(.25, .5, 1), .025, 1, c(6, 12), c(6, 12), c(1.5, 1.2), c(.4, .6),
        c(1.2, 1.1), c(1, 1), FALSE)
)

# The last look comes early or late: it spends what is left, with the information that there is.
share <- function(family, alpha, sided, t) sided * switch(family,
  `obrien-fleming` = 2 * pnorm(qnorm(1 - alpha / sided / 2) / sqrt(t), lower.tail = FALSE),
  pocock = alpha / sided * log(1 + (exp(1) - 1) * t))
running <- list()
for (family in c("obrien-fleming", "pocock")) for (sided in 1:2) for (last in c(0.7, 1.3)) {
  alpha <- 0.025 * sided
  rates <- c(0.3, 0.5, last)
  spent <- c(share(family, alpha, sided, 0.3), share(family, alpha, sided, 0.5), alpha)
  d <- getDesignGroupSequential(informationRates = rates / last, alpha = alpha, sided = sided, typeOfDesign = "asUser",
                                userAlphaSpending = spent, tolerance = 1e-10)
  running[[length(running) + 1]] <- list(name = paste(family, sided, last), family = family, sides = sided, alpha = alpha,
                                         fractions = vec(rates), critical = vec(d$criticalValues))
}
save_golden("group_sequential", list(characteristics = characteristics, trials = trials, running = running))
