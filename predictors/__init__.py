"""What is believed about architectures nobody has trained yet."""
