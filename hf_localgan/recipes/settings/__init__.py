"""Groups of settings that recipes share."""
