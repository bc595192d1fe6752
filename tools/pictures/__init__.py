"""The screenshots of docs/pictures, taken of a real stack by a real browser."""
