"""A sample mega-service: services of this broker, chained into a graph."""
