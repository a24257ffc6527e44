"""Training of the two published encoders, for whoever lacks their files: texts (and pictures) in, their files out."""
