"""Small language models: what they do, and what runs them."""
