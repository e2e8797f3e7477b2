"""What a training run is made of: settings, its folder, batches, the steps of one network."""
