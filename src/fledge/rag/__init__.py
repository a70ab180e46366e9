"""Answers from an index: retrieve, answer, cite, remember.  See docs/grounding.md."""
