"""The pandera models of the events; `exp_pipeline.contracts.events` loads them when somebody asks."""
