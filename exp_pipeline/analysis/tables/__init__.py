"""Unit tables from elsewhere: questions, checks and estimates without a brief."""
