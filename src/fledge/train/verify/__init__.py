"""``fledge verify``: properties that must hold whatever the model and data, each checked alone."""
