"""What a run is: typed specs, how YAML becomes specs, and the key that names each one.

Knows nothing of torch, Ray, MLflow or files other than the YAML it reads.
"""
