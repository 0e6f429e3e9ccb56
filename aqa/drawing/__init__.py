"""Figures without matplotlib's `Axes`: words, frames and panels by their places in inches, and files of pixels."""
