"""Android phones: the ways to reach one, and what can be done there."""
