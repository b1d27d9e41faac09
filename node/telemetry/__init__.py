"""What the outside can see of a node: metrics, liveness and readiness."""
