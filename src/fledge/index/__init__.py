"""Knowledge in files: load, split, embed, store.  See docs/grounding.md."""
