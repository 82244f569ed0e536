"""Laws of simulated platforms from published work on the behavior of users."""
