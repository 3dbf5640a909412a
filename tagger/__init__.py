"""The tagger: models, releases and prediction. Knows nothing of Django or of training."""
