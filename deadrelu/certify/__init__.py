"""What is so for every input of a box: units that no input wakes, and inputs that wake a unit."""
