"""What happens to a request: lists of stages, each a function."""
