"""Whether this machine, or a cluster, can make the tables: looked at before hours are spent, leaving nothing behind."""
