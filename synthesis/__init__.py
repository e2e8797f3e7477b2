"""Speech synthesisers, the speakers made with them, and the words they say."""
