"""What people and their machines read about LUTs: renderings of what other rooms computed."""
