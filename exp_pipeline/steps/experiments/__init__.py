"""One experiment from plan to memo: readiness, dataset, readout."""
