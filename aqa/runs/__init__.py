"""One run: from an experiment to the folder of its results, and scoring it again."""
