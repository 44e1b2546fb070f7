"""Scores: raw input to named outputs, and what decisions are made of them."""
