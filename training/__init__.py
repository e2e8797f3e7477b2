"""What a training run is made of: settings, batches, the steps of one network."""
