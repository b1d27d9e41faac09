"""HTTP in front of the broker: OPEA's and OpenAI's interfaces, jobs, events."""
