"""Recognition of speech, by the objectives of the other trainers."""
