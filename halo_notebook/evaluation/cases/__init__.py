"""What is sent: cases and their files, and users who answer back."""
