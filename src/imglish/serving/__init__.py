"""The server: captions, answers, classes, boxes and masks over HTTP, and a page to try them."""
