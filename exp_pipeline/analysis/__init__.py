"""From rows of the minimal analytic dataset to estimates, integrity verdicts, decisions and memo facts."""
