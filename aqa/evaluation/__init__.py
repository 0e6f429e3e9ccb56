"""What scores are worth: metrics, bootstrap intervals, comparisons."""
