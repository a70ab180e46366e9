"""Post-training data made with a chat model: a method a file, its prompts at the top."""
