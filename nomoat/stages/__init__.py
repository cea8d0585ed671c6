"""The pipeline, one file a stage: its `Config` and one function `run(session, config, recipe) -> outputs`."""
