"""A policy answers over HTTP; users are dealt to arms, which can be told apart."""
