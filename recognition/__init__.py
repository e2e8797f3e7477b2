"""From a recording to an answer: checkpoints, predictor, calibration, recognizer."""
