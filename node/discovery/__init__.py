"""Who is there: announce oneself, answer questions, keep a live table of the others."""
