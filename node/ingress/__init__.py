"""Message in, validated job out."""
