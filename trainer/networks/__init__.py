"""What the networks of several systems are made of, their losses and their averages."""
