"""A stand-in for Cloud Storage: the JSON API, and the XML API as far as signed URLs use it."""
