"""What runs leave behind, as files and numbers. Nothing here needs torch."""
