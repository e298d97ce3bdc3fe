"""From finished runs to tables. Reads the store, or a snapshot of it; never starts a run."""
