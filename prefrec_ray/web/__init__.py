"""What HTTP servers share: address, token, limits, problems."""
