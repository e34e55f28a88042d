"""Pictures through a trained model: the `Model`, its passes, and the pipeline over files."""
