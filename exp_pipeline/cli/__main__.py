"""`python -m exp_pipeline.cli` is `exp`."""

from exp_pipeline.cli.app import main

main()
