"""For which worlds each method is promised to hold, and what happens beyond them."""

from __future__ import annotations

# Method -> (stated domain, what happens outside it).
DOMAINS: dict[str, tuple[str, str]] = {
    "Welch, moments only": (
        "Skewness of the smaller arm's mean (skewness / √n) at most 0.5, and skewness of the difference at "
        "most "
        "0.1: equal arms from 8 normal units, 16 exponential ones or 150 lognormal ones each.",
        "Unequal arms of skewed values: one end of the interval errs far more than the other. Very skewed "
        "values "
        "in few units: the interval is too wide.",
    ),
    "Welch with third moments": (
        "Skewness of the smaller arm's mean at most 0.5, also where arms are unequal. This is what a "
        "readout from rows "
        "uses.",
        "Few units with rare large values, such as 80 % zeros at 40 + 360: the values that are missing from "
        "the small arm cannot be corrected for. Cap the values, or wait.",
    ),
    "winsorised mean": (
        "Five values or more above the cap.",
        "It answers for capped values only.",
    ),
    "relative effect of means": (
        "As Welch, and both means three standard errors from zero. Where one arm is far less sure than the "
        "other (3 (b² - a²) / √(a² + b²) beyond ± 0.3, where a and b are the relative standard errors of "
        "treatment and control) the log-ratio gives way to Fieller's interval.",
        "As Welch: skewed values in unequal arms make one end err more.",
    ),
    "relative effect of means, third moments": (
        "As Welch with third moments.",
        "As Welch with third moments.",
    ),
    "CUPED": (
        "Eight units of the smaller arm for each covariate; equal slopes in both arms, or equal arms.",
        "With slopes that differ and unequal arms coverage was still right here; Lin's form is more precise.",
    ),
    "CUPED, three covariates": ("Eight units of the smaller arm for each covariate.", "Power falls first."),
    "CUPED, three covariates with gaps": (
        "Eight units of an arm for each column, indicators of gaps counted.",
        "",
    ),
    "Lin (own slopes)": ("Twelve units in each arm for each covariate.", ""),
    "strata as fixed effects": ("Two strata or more with units of both arms; pairs too.", ""),
    "shares (Newcombe)": (
        "Ten successes and ten failures expected in each arm.",
        "Fewer: coverage swings with the counts, from too narrow at 8 + 8 to too wide for rare events, and "
        "the "
        "tails are uneven.",
    ),
    "relative effect of shares": (
        "Ten successes and ten failures expected in each arm. The log-ratio gives way to Newcombe's interval "
        "of a ratio as for means.",
        "A handful of events: one end errs more, and the code flags it. "
        "With less than about four events in control there is no relative effect at all.",
    ),
    "ratios (delta)": ("Thirty units in the smaller arm.", "Fewer: up to two points too narrow."),
    "relative effect of ratios": (
        "Thirty units in each arm, and arms no more uneven than four to one.",
        "A small arm beside a large one: one end errs more.",
    ),
    "rates of events": (
        "Equal arms with as much information as thirty independent events each (events / dispersion).",
        "A handful of events: far too wide. Bunched counts in few units: somewhat too narrow.",
    ),
    "quantiles": (
        "Units that stand for ten rows beyond the quantile in the smaller arm (units x the smaller of q "
        "and 1 - q).",
        "Few units beyond the quantile: too wide, and sometimes no bound at all; the method says so.",
    ),
    "CR2": (
        "Five degrees of freedom or more, and sizes of classes that vary by at most half their mean (or a "
        "hundred classes).",
        "Fewer degrees of freedom: too wide, almost without power. Sizes that vary by their mean with a high "
        "intraclass correlation in few classes: up to two points too narrow.",
    ),
    "CR2, two covariates": ("Eight classes in each arm.", ""),
    "CR1 with t(G - 1)": (
        "Fifty classes, twenty in the smaller arm, sizes that vary by at most half. The choice between CR1 "
        "and CR2 is "
        "made by itself.",
        "Few treated classes among many: far too narrow, which is why CR2 is taken there.",
    ),
    "wild cluster bootstrap": (
        "Ten classes in each arm.",
        "Three classes an arm: three and a half points too narrow; six: one and a half. Use shuffling there.",
    ),
    "randomisation inference": (
        "Any number of classes: it promises at least 95 % when the effect is the same for all.",
        "",
    ),
    "complier effect (2SLS)": (
        "A first-stage F of 50 or more.",
        "Weaker: lopsided, then far too wide. Read the Anderson-Rubin interval.",
    ),
    "complier effect (Anderson-Rubin)": ("Any first stage.", ""),
    "Lee bounds": (
        "Any share missing, where assignment moves nobody out of sight who would be seen otherwise. Here the "
        "truth is put at an end of the bounds, where all misses lie on one side.",
        "",
    ),
    "mean over segments": (
        "Nowhere within the bounds for sure: segments here have spreads from 1 to 6.5.",
        "One or two points too narrow where effects vary, for their variance is estimated from few.",
    ),
    "prediction-powered difference": (
        "Forty labelled units an arm for yes-or-no labels, twenty for normal scores.",
        "Fewer: up to two points too narrow.",
    ),
    "Cohen's kappa": (
        "A hundred units of the rarer label.",
        "Fewer: agreement close to full is overstated at the lower end (intervals wholly above the truth).",
    ),
    "Gwet's AC1": (
        "A hundred units of the rarer label, for coverage; its tails stay uneven longest.",
        "At 20 to 60 units intervals lie wholly above the truth in 6-8 % of samples.",
    ),
    "CUPED with third moments": (
        "Skewness of the smaller arm's mean, of what covariates leave, at most 0.5.",
        "As Welch with third moments.",
    ),
    "ratios with third moments": (
        "Fifty units in the smaller arm, also where arms are unequal.",
        "Fewer: up to two points too narrow, and flagged.",
    ),
    "relative effect of ratios, third moments": (
        "Fifty units in the smaller arm, also where arms are unequal.",
        "Fewer: one end errs more, and flagged.",
    ),
    "strata with a covariate": ("As strata, with ten units of an arm for each covariate.", ""),
    "strata with third moments": ("As Welch with third moments, skewness pooled over strata.", ""),
    "classes, yes or no outcomes": (
        "Five degrees of freedom by CR2 and as many classes in each arm; the choice between CR1 and CR2 is "
        "made by itself.",
        "Few classes of one arm beside many of the other: one end errs somewhat more, and the code flags "
        "that skewness was not looked at.",
    ),
    "classes, lognormal outcomes": (
        "As of yes or no.",
        "Skewed values in few classes of one arm beside many of the other: one end errs far more; flagged.",
    ),
    "relative effect in classes": (
        "As the absolute effect in classes.",
        "",
    ),
    "shrunken effects of segments": (
        "Any number of segments from three on, averaged over segments whose true effects are normal: it "
        "promises "
        "at least 95 %, and gives more where segments hardly differ.",
        "",
    ),
    "inverse chances of answering": (
        "Fifty observed units in each arm, forty classes where classes were drawn, and whoever is missing "
        "is so "
        "by chance given the covariates.",
        "Fewer: one to four points too narrow, and the code flags it.",
    ),
    "worst-case bounds": (
        "Sixty units. The truth is put at an end of the bounds, where all misses lie on one side.",
        "",
    ),
    "differences in differences, two periods": ("Twelve classes, and trends that are parallel.", ""),
    "differences in differences, panel": (
        "Ten units in each group, errors that last or not, and trends that are parallel.",
        "Trends that part are taken for an effect: half of the intervals miss where groups part by a "
        "tenth of a "
        "standard deviation a period. No interval can tell; the pre-trend test may.",
    ),
    "adoption in turns": (
        "Fifteen units in each cohort, and trends that are parallel.",
        "Fewer: somewhat too wide.",
    ),
    "regression discontinuity": (
        "Six hundred units on both sides together (sixty within the bandwidth on the thinner side) and a "
        "curve that bends gently.",
        "Fewer: up to three points too narrow, and flagged. A strong bend that differs between the sides "
        "leaves bias.",
    ),
    "interrupted series": (
        "Sixty periods whose errors pass on at most 0.3 of themselves.",
        "Errors that last longer in short series: too narrow. `memory` says how long they last.",
    ),
    "propensity weights": (
        "Six hundred units whose choice moves the log-odds by half a standard deviation, and covariates "
        "that hold "
        "all that moves choice and outcome.",
        "A choice that covariates nearly decide: few units carry all the weight.",
    ),
    "propensity weights and outcome model": (
        "As propensity weights; one of the two models must be right.",
        "As propensity weights.",
    ),
    "matching on propensity": (
        "As propensity weights. Scores are taken as known, so that it promises at least 95 %.",
        "A strong choice leaves bias, because matches lie far off.",
    ),
}
