"""What the other side speaks: one module per carrier protocol. No actors, no database, no decisions."""
