"""What is made of a translation: the picture alone, attention panels, a report page."""
