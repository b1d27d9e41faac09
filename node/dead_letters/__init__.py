"""Dead letters: requests that were given up, for a person to read, replay or remove."""
