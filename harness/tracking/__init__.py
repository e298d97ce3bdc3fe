"""Where results live: a record and a spool beside each run's checkpoints, and MLflow filled from them."""
