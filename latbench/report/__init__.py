"""Reports for people and programs: renderings of what other packages computed."""
