"""The training loop and the step that it takes."""
