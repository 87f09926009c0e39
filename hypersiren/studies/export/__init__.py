"""A fitted or predicted field in other forms: a web page, ONNX, a torch program."""
