"""Train the small models that ship with the package: data, models, evaluation."""
