"""What sound files and recordings go through: decoders, filters, spectral gate, voice activity."""
