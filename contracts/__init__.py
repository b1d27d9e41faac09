"""What travels on the wire between text2image services: types only, pydantic only."""
