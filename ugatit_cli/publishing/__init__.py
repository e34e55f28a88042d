"""Model folders to the Hugging Face Hub, with a model card."""
