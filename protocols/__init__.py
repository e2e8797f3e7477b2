"""What evaluation asks: one file a family of questions, and what they share."""
