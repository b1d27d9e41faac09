"""What nodes share outside of messages: image files, results, and claims on jobs."""
