"""The microphone, the ends of utterances, the terminal, and what the live script keeps."""
