"""What people see: tables and live progress in the terminal."""
