"""The public bench: worlds with known laws, submissions, and their scores by true levels."""
